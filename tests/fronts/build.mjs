// Bundles the pages of React and Vue: `node build.mjs FOLDER`.
import { build } from "esbuild";

await build({
  entryPoints: ["pages/react.tsx", "pages/vue.ts"],
  outdir: process.argv[2],
  bundle: true,
  minify: true,
  format: "iife",
  jsx: "automatic",
  define: {
    "process.env.NODE_ENV": '"production"',
    __VUE_OPTIONS_API__: "false",
    __VUE_PROD_DEVTOOLS__: "false",
    __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false",
  },
});
