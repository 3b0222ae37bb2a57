//! Pages that Workers serve, in a browser: rendered, their scripts run, and the scripts' requests answered by the Worker again.

use e2e::browser::Browser;
use e2e::npm::packages;
use e2e::platform::Platform;
use serde_json::json;

use crate::templates;

/// A page whose script uses what browsers and Workers speak with each other, and leaves what it found in `document.title`.
const TALKER: &str = r##"
const page = `<!doctype html><meta charset="utf-8"><title>…</title><p id="shown">ü</p>
<script type="module">
  import { add } from "/add.js";
  const found = { module: add(2, 3), text: document.getElementById("shown").textContent };
  found.cookie = document.cookie;

  const form = new FormData();
  form.append("name", "Ünal");
  form.append("file", new File(["12345"], "a b.txt", { type: "text/plain" }));
  found.form = await (await fetch("/form", { method: "POST", body: form })).json();

  const body = (await fetch("/stream")).body.pipeThrough(new TextDecoderStream());
  found.stream = "";
  for await (const chunk of body) found.stream += chunk;

  found.events = await new Promise((resolve, reject) => {
    const seen = [];
    const source = new EventSource("/events");
    source.onerror = () => reject(new Error("no events"));
    source.onmessage = (event) => {
      seen.push(event.data);
      if (seen.length < 3) return;
      source.close();
      resolve(seen);
    };
  });

  const aborted = new AbortController();
  const silent = fetch("/silent", { signal: aborted.signal }).then(() => "answered", (error) => error.name);
  setTimeout(() => aborted.abort(), 50);
  found.aborted = await silent;

  const redirected = await fetch("/old");
  found.redirected = [redirected.redirected, new URL(redirected.url).pathname, redirected.status];
  found.large = (await (await fetch("/form", { method: "PUT", body: new Uint8Array(3_000_000).fill(7) })).json()).sum;
  document.title = JSON.stringify(found);
</script>`;
const silence = () => new Promise(() => setTimeout(() => {}, 60_000));
export default {
  async fetch(request) {
    const { pathname } = new URL(request.url);
    switch (`${request.method} ${pathname}`) {
      case "GET /":
        return new Response(page, { headers: { "Content-Type": "text/html", "Set-Cookie": "seen=1; Path=/" } });
      case "GET /add.js":
        return new Response("export const add = (a, b) => a + b;", { headers: { "Content-Type": "text/javascript" } });
      case "POST /form": {
        const form = await request.formData();
        const file = form.get("file");
        return Response.json([form.get("name"), file.name, file.type, await file.text(), request.headers.get("Cookie")]);
      }
      case "PUT /form": {
        let sum = 0;
        for await (const chunk of request.body) for (const byte of chunk) sum += byte;
        return Response.json({ sum });
      }
      case "GET /stream": {
        const { readable, writable } = new TransformStream();
        (async () => {
          const writer = writable.getWriter();
          for (let i = 0; i < 20; i++) await writer.write(new TextEncoder().encode(`${i} `));
          await writer.close();
        })();
        return new Response(readable);
      }
      case "GET /events":
        return new Response("data: a\n\ndata: ü\n\ndata: c\n\n", { headers: { "Content-Type": "text/event-stream" } });
      case "GET /silent":
        return silence();
      case "GET /old":
        return Response.redirect(new URL("/add.js", request.url), 302);
      default:
        return new Response(null, { status: 404 });
    }
  },
};
"##;

#[test]
fn honos_starter_template_is_a_page_that_asks_its_worker() {
    let Some(npm) = packages("the starter template in a browser") else { return };
    let platform = Platform::start();
    let Some(mut browser) = Browser::start("the starter template in a browser", platform.folder()) else { return };
    templates::deploy(&platform, &npm, "hono/workers/templates", "starter-hono");
    let origin = format!("http://starter-hono.workers.localhost:{}", platform.http.port());
    browser.open(&format!("{origin}/"));
    // Its script asks the Worker for the text of its heading.
    browser.until("document.getElementById('heading').textContent === 'Hello Hono!'");
    assert_eq!(browser.value("document.title"), "Hello, World!");
    assert_eq!(
        browser.value("document.getElementById('heading').getBoundingClientRect().height > 10"),
        true,
        "laid out"
    );
    let asked = browser.value("performance.getEntriesByType('resource').map((it) => [it.name, it.responseStatus])");
    assert!(
        asked.as_array().is_some_and(|asked| asked.contains(&json!([format!("{origin}/message"), 200]))),
        "{asked}"
    );
    // No icon is in the template, and a browser asks for one.
    let faults: Vec<&String> = browser.faults().iter().filter(|fault| !fault.contains("favicon.ico")).collect();
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn a_button_of_the_starter_template_with_assets_asks_the_worker() {
    let Some(npm) = packages("the starter template with assets in a browser") else { return };
    let platform = Platform::start();
    let what = "the starter template with assets in a browser";
    let Some(mut browser) = Browser::start(what, platform.folder()) else { return };
    templates::deploy(&platform, &npm, "hello-world-with-assets/ts", "starter-button");
    browser.open(&format!("http://starter-button.workers.localhost:{}/", platform.http.port()));
    browser.until("document.getElementById('heading').textContent === 'Hello, World!'");
    browser.value("document.getElementById('button').click()");
    browser.until("/^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(document.getElementById('random').textContent)");
}

#[test]
fn a_page_and_its_worker_speak_as_browsers_do() {
    let platform = Platform::start();
    let Some(mut browser) = Browser::start("a page that speaks with its Worker", platform.folder()) else { return };
    assert_eq!(platform.cli(&["plan", "set", "free", "--cpu-ms", "2000"]).code, 0);
    platform.deploy("talker", TALKER);
    browser.open(&format!("http://talker.workers.localhost:{}/", platform.http.port()));
    browser.until("document.title !== '…'");
    let title = browser.value("document.title");
    let found: serde_json::Value = serde_json::from_str(title.as_str().expect("text")).expect("JSON");
    let stream: String = (0..20).map(|i| format!("{i} ")).collect();
    let expect = json!({
        "module": 5, "text": "ü", "cookie": "seen=1",
        "form": ["Ünal", "a b.txt", "text/plain", "12345", "seen=1"],
        "stream": stream, "events": ["a", "ü", "c"], "aborted": "AbortError",
        "redirected": [true, "/add.js", 200], "large": 21_000_000,
    });
    assert_eq!(found, expect);
}
