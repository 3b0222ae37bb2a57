// A reverse proxy: the request goes to env.ORIGIN as it is, the answer comes back as it streams in.

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    const target = new URL(url.pathname + url.search, env.ORIGIN);
    let answer;
    try {
      answer = await fetch(target, {
        method: request.method,
        headers: request.headers,
        body: request.body,
        redirect: "manual",
        signal: request.signal,
      });
    } catch (error) {
      console.error("origin", target.host, error);
      return new Response("The origin does not answer\n", { status: 502 });
    }
    const response = new Response(answer.body, answer);
    response.headers.append("via", "1.1 selvage");
    return response;
  },
};
