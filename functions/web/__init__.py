"""HTTP/1.1 and HTTP/2 on sockets: bytes in, an ASGI application called for each request, bytes out."""
