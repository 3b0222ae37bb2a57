// Runs a table of cases (`TABLE`, of the kind `KIND`, put before this text) in a Worker: answers with how many there are and
// which fail, each by a name that stays the same while the table does.

const URL_PARTS = ["href", "protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash"];
const COMPONENTS = ["protocol", "username", "password", "hostname", "port", "pathname", "search", "hash"];

function check(value, message) {
  if (!value) throw new Error(message);
}

function thrown(run) {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}

const kinds = {
  * url(table) {
    for (const item of table) {
      if (typeof item === "string") continue;
      const base = item.base === null ? undefined : item.base;
      yield [`<${item.input}> against <${item.base}>`, () => {
        if (item.failure) {
          check(thrown(() => new URL(item.input, base)) instanceof TypeError, "parses");
          check(!URL.canParse(item.input, base) && URL.parse(item.input, base) === null, "can be parsed");
          return;
        }
        const url = new URL(item.input, base);
        for (const part of URL_PARTS) check(url[part] === item[part], `${part} is ${url[part]}`);
        if ("origin" in item) check(url.origin === item.origin, `origin is ${url.origin}`);
        check(new URL(url.href).href === url.href, "changes when it is parsed again");
        if (item.search !== "") check(url.searchParams.toString() === new URLSearchParams(item.search).toString(), "searchParams");
      }];
    }
  },
  * setters(table) {
    for (const [setter, cases] of Object.entries(table)) {
      if (setter === "comment") continue;
      for (const item of cases) {
        yield [`<${item.href}> ${setter} = <${item.new_value}>`, () => {
          const url = new URL(item.href);
          url[setter] = item.new_value;
          for (const [part, value] of Object.entries(item.expected)) check(url[part] === value, `${part} is ${url[part]}`);
        }];
      }
    }
  },
  * labels(table) {
    const spaces = ["", "\t", "\n", "\f", "\r", " "];
    for (const [label, name] of Object.entries(table)) {
      yield [label, () => {
        for (const space of spaces) {
          for (const text of [label, label.toUpperCase()]) {
            check(new TextDecoder(space + text + space).encoding === name.toLowerCase(), "another encoding");
          }
        }
        check(thrown(() => new TextDecoder(`${label}\0`)) instanceof RangeError, "with a NUL");
        check(thrown(() => new TextDecoder(`${label}\u00a0`)) instanceof RangeError, "with a no-break space");
        check(new TextDecoderStream(label).encoding === name.toLowerCase(), "another encoding of a stream");
      }];
    }
  },
  // Follows the algorithm that goes with the table.
  * patterns(table) {
    for (const item of table) {
      yield [JSON.stringify([item.pattern, item.inputs]), () => pattern(item)];
    }
  },
};

function pattern(item) {
  const error = thrown(() => new URLPattern(...item.pattern));
  if (item.expected_obj === "error") {
    check(error instanceof TypeError, "is no error");
    return;
  }
  if (error !== undefined) throw error;
  const made = new URLPattern(...item.pattern);
  const given = item.pattern[0];
  const init = typeof given === "object" && given !== null ? given : {};
  const baseText = init.baseURL ?? (item.pattern.length > 1 && typeof item.pattern[1] === "string" ? item.pattern[1] : undefined);
  for (const part of COMPONENTS) {
    const wanted = expectedPart(item, init, baseText, part);
    check(made[part] === wanted, `${part} is ${made[part]}, not ${wanted}`);
  }
  if (item.expected_match === "error") {
    check(thrown(() => made.test(...item.inputs)) instanceof TypeError, "test is no error");
    check(thrown(() => made.exec(...item.inputs)) instanceof TypeError, "exec is no error");
    return;
  }
  check(made.test(...item.inputs ?? []) === Boolean(item.expected_match), "test");
  const found = made.exec(...item.inputs ?? []);
  if (!item.expected_match) {
    check(found === null, "exec finds");
    return;
  }
  const inputs = item.expected_match.inputs ?? item.inputs;
  check(JSON.stringify(found.inputs.map(sorted)) === JSON.stringify(inputs.map(sorted)), `inputs are ${JSON.stringify(found.inputs)}`);
  for (const part of COMPONENTS) {
    let wanted = item.expected_match[part];
    if (wanted === undefined) {
      const empty = item.exactly_empty_components?.includes(part);
      wanted = { input: "", groups: empty ? {} : { 0: "" } };
    }
    check(found[part].input === wanted.input, `${part} is ${found[part].input}`);
    const names = Object.keys(wanted.groups);
    check(names.length === Object.keys(found[part].groups).length, `${part} has other groups`);
    for (const name of names) check(found[part].groups[name] === (wanted.groups[name] ?? undefined), `${part}'s ${name} is ${found[part].groups[name]}`);
  }
}

const sorted = (value) => typeof value === "object" ? Object.fromEntries(Object.entries(value).sort()) : value;

function expectedPart(item, init, baseText, part) {
  if (item.expected_obj !== undefined && part in item.expected_obj) return item.expected_obj[part];
  if (item.exactly_empty_components?.includes(part)) return "";
  if (part in init) return init[part];
  const earlier = {
    protocol: [], hostname: ["protocol"], port: ["protocol", "hostname"], username: [], password: [],
    pathname: ["protocol", "hostname", "port"], search: ["protocol", "hostname", "port", "pathname"], hash: ["protocol", "hostname", "port", "pathname", "search"],
  };
  if (earlier[part].some((name) => name in init)) return "*";
  if (baseText !== undefined && part !== "username" && part !== "password") {
    const value = new URL(baseText)[part];
    return part === "protocol" ? value.slice(0, -1) : part === "search" || part === "hash" ? value.slice(1) : value;
  }
  return "*";
}

// Rows of an index: the bytes of the pointers from `first` on, and what they decode to. A pointer without a character is left out.
const INDEXES = {
  "gb18030": { gb18030: doubles(190, (lead, trail) => [lead + 0x81, trail + (trail < 0x3f ? 0x40 : 0x41)]), gbk: doubles(190, (lead, trail) => [lead + 0x81, trail + (trail < 0x3f ? 0x40 : 0x41)]) },
  "big5": { big5: doubles(157, (lead, trail) => [lead + 0x81, trail + (trail < 0x3f ? 0x40 : 0x62)]) },
  "euc-kr": { "euc-kr": doubles(190, (lead, trail) => [lead + 0x81, trail + 0x41]) },
  "jis0208": {
    "euc-jp": doubles(94, (lead, trail) => lead < 94 ? [lead + 0xa1, trail + 0xa1] : undefined),
    "shift_jis": doubles(188, (lead, trail) => [lead + (lead < 0x1f ? 0x81 : 0xc1), trail + (trail < 0x3f ? 0x40 : 0x41)]),
    "iso-2022-jp": { ...doubles(94, (lead, trail) => lead < 94 ? [lead + 0x21, trail + 0x21] : undefined), before: [0x1b, 0x24, 0x42], after: [0x1b, 0x28, 0x42] },
  },
  "jis0212": { "euc-jp": doubles(94, (lead, trail) => lead < 94 ? [0x8f, lead + 0xa1, trail + 0xa1] : undefined) },
};

function doubles(row, bytesOf) {
  return { row, bytesOf: (pointer) => bytesOf(Math.floor(pointer / row), pointer % row) };
}

kinds.indexes = function* (table) {
  for (const [name, text] of Object.entries(table)) {
    const index = [...text];
    const encodings = INDEXES[name] ?? { [name]: { row: 128, bytesOf: (pointer) => [pointer + 0x80] } };
    for (const [encoding, { row, bytesOf, before = [], after = [] }] of Object.entries(encodings)) {
      for (let first = 0; first < index.length; first += row) {
        const bytes = [], wanted = [];
        for (let pointer = first; pointer < Math.min(first + row, index.length); pointer++) {
          const encoded = index[pointer] === "\uffff" ? undefined : bytesOf(pointer);
          if (encoded === undefined) continue;
          bytes.push(...encoded);
          wanted.push(index[pointer]);
        }
        if (bytes.length === 0) continue;
        yield [`${encoding} by ${name} from ${first}`, () => {
          const all = new Uint8Array([...before, ...bytes, ...after]);
          const found = new TextDecoder(encoding, { fatal: true }).decode(all);
          check(found === wanted.join(""), `${[...found].map((c, at) => c === wanted[at] ? "" : `${at}: ${c.codePointAt(0).toString(16)} not ${wanted[at]?.codePointAt(0).toString(16)}`).filter(Boolean).slice(0, 5)}`);
          // The same in parts that end within characters.
          const decoder = new TextDecoder(encoding);
          let parts = "";
          for (let at = 0; at < all.length; at += 3) parts += decoder.decode(all.subarray(at, at + 3), { stream: true });
          check(parts + decoder.decode() === found, "other in parts");
        }];
      }
    }
  }
};

export default {
  fetch() {
    const failures = {};
    let cases = 0;
    for (const [name, run] of kinds[KIND](TABLE)) {
      cases++;
      const error = thrown(run);
      if (error !== undefined) failures[name] = String(error);
    }
    return Response.json({ cases, failures });
  },
};
