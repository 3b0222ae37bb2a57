// /N/… goes to service N.
export default {
  fetch(request, env) {
    const number = new URL(request.url).pathname.split("/")[1];
    return env[`w${number}`].fetch(new Request("http://idle.test/", request));
  },
};
