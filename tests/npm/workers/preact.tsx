/** @jsxRuntime automatic @jsxImportSource preact */
import renderToString from "preact-render-to-string";
import { useState } from "preact/hooks";
import { checks, equal } from "../check";

function Counter({ from }: { from: number }) {
  const [count] = useState(from);
  return <button class="n" disabled>{`${count} < 5`}</button>;
}

export default checks({
  renders: () => equal(renderToString(<Counter from={3} />), '<button class="n" disabled>3 &lt; 5</button>'),
});
