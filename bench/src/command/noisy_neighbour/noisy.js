// What a noisy tenant does; the path says which. The same for Selvage and workerd.
//   /burn?steps=N           computes, then answers
//   /churn?keep=N&change=M  keeps N blocks alive and replaces M of them
//   /hoard                  keeps blocks until a limit ends it
//   /stuck                  a regular expression that backtracks for hours; V8 looks for interrupts in it
//   /deaf                   a builtin that takes as long and looks at nothing
// Anything else answers at once. The clock stands still while a Worker computes, so the caller counts the steps.

const OBJECTS_PER_BLOCK = 1000;
const kept = [];
let turn = 0;

export default {
  fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    switch (pathname) {
      case "/burn":
        return new Response(String(burn(Number(searchParams.get("steps")))));
      case "/churn":
        return new Response(String(churn(Number(searchParams.get("keep")), Number(searchParams.get("change")))));
      case "/hoard":
        for (;;) churn(Infinity, 1);
      case "/deaf":
        return new Response(String(Array.prototype.indexOf.call({ length: 2 ** 53 - 1 }, 1)));
      case "/stuck":
        return new Response(String(/^(a+)+$/.test("a".repeat(40) + "!")));
      default:
        return new Response("ready");
    }
  },
};

function burn(steps) {
  let x = 1;
  for (let i = 0; i < steps; i++) x = (Math.imul(x, 31) + i) | 0;
  return x;
}

// Small objects that point to each other: what a collector has most to do with.
function churn(keep, change) {
  for (let i = 0; i < change; i++) {
    const block = [];
    let last = null;
    for (let n = 0; n < OBJECTS_PER_BLOCK; n++) block.push((last = { n, last, turn }));
    if (kept.length < keep) kept.push(block);
    else kept[turn++ % keep] = block;
  }
  return kept.length;
}
