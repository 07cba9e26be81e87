"""What is done to photos before anybody embeds or shows them: decoding, thumbnails, marks of their files."""
