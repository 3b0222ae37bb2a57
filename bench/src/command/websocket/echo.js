export default {
  fetch(request) {
    if (request.headers.get("upgrade") !== "websocket") return new Response("Hello, World!\n");
    const { 0: client, 1: server } = new WebSocketPair();
    server.accept();
    server.addEventListener("message", ({ data }) => server.send(data));
    return new Response(null, { status: 101, webSocket: client });
  },
};
