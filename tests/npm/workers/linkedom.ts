import { parseHTML } from "linkedom";
import { checks, equal } from "../check";

export default checks({
  "a document": () => {
    const { document } = parseHTML("<html><body><p>one</p><p class=x>two</p></body></html>");
    equal(document.querySelector("p.x")?.textContent, "two");
    const made = document.createElement("em");
    made.textContent = "<three>";
    document.body.append(made);
    equal(document.body.lastElementChild?.outerHTML, "<em>&lt;three&gt;</em>");
  },
});
