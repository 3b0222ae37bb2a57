import * as cheerio from "cheerio";
import { checks, equal } from "../check";

const html = '<ul id="f"><li class="a">Apple</li><li class="b">Bread &amp; butter</li></ul>';

export default checks({
  selects: () => equal(cheerio.load(html)("li.b").text(), "Bread & butter"),
  changes: () => {
    const $ = cheerio.load(html, null, false);
    $("li.a").attr("data-n", "1").append("<b>!</b>");
    equal($.html(), html.replace('<li class="a">Apple', '<li class="a" data-n="1">Apple<b>!</b>'));
  },
  extracts: () => equal(cheerio.load(html).extract({ names: ["li"] }), { names: ["Apple", "Bread & butter"] }),
});
