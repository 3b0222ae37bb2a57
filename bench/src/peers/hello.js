// The same for Selvage and workerd: one ES module, no state, one short text.
export default {
  fetch(_request, _env, _ctx) {
    return new Response("Hello, World!\n");
  },
};
