// Starts Swagger UI. All that differs from shop to shop stands in data attributes, so that no script is inline.
"use strict";

(() => {
  const place = document.getElementById("shop-similarity-api");
  const { schema, csrfHeader, csrfToken } = place.dataset;
  window.SwaggerUIBundle({
    url: schema,
    domNode: place,
    deepLinking: true,
    layout: "BaseLayout",
    presets: [window.SwaggerUIBundle.presets.apis],
    // Without this it would send the schema's address to a validator on the internet.
    validatorUrl: null,
    requestInterceptor: (request) => {
      // A user who is logged in is known by the session, for which Django wants the token on all that writes.
      const isOwn = new URL(request.url, document.baseURI).origin === window.location.origin;
      if (isOwn && request.method && request.method !== "GET") {
        request.headers[csrfHeader] = csrfToken;
      }
      return request;
    },
  });
})();
