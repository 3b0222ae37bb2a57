/** @jsxRuntime automatic @jsxImportSource react */
import { Suspense, use } from "react";
import { renderToReadableStream, renderToStaticMarkup } from "react-dom/server.edge";
import { checks, equal, ok } from "../check";

const Late = ({ text }: { text: Promise<string> }) => <i>{use(text)}</i>;

export default checks({
  markup: () => equal(renderToStaticMarkup(<p title="a&b">{["x", 1]}</p>), '<p title="a&amp;b">x1</p>'),
  stream: async () => {
    const later = new Promise<string>((resolve) => setTimeout(() => resolve("late"), 5));
    const stream = await renderToReadableStream(<Suspense fallback="…"><Late text={later} /></Suspense>);
    await stream.allReady;
    ok((await new Response(stream).text()).includes("<i>late</i>"), "the late part");
  },
});
