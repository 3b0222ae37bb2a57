// node:path: POSIX paths.
(function (ops, lib) {
  "use strict";

  function check(path, name = "path") {
    if (typeof path !== "string") {
      throw Object.assign(new TypeError(`The "${name}" argument must be of type string. Received ${path === null ? "null" : typeof path}`), { code: "ERR_INVALID_ARG_TYPE" });
    }
  }

  // Without ".", "..", and doubled slashes; ".." above a root goes.
  function segments(path, absolute) {
    const kept = [];
    for (const part of path.split("/")) {
      if (part === "" || part === ".") continue;
      if (part !== "..") kept.push(part);
      else if (kept.length > 0 && kept.at(-1) !== "..") kept.pop();
      else if (!absolute) kept.push("..");
    }
    return kept.join("/");
  }

  const posix = {
    sep: "/",
    delimiter: ":",
    normalize(path) {
      check(path);
      if (path === "") return ".";
      const absolute = path.startsWith("/");
      let text = segments(path, absolute);
      if (text === "" && !absolute) text = ".";
      if (text !== "" && path.endsWith("/")) text += "/";
      return absolute ? `/${text}` : text;
    },
    isAbsolute(path) {
      check(path);
      return path.startsWith("/");
    },
    join(...parts) {
      parts.forEach((part) => check(part));
      const joined = parts.filter((part) => part !== "").join("/");
      return joined === "" ? "." : posix.normalize(joined);
    },
    resolve(...parts) {
      let path = "";
      for (let i = parts.length - 1; i >= 0 && !path.startsWith("/"); i--) {
        check(parts[i], `paths[${i}]`);
        if (parts[i] !== "") path = path === "" ? parts[i] : `${parts[i]}/${path}`;
      }
      return `/${segments(path, true)}`;
    },
    relative(from, to) {
      check(from, "from");
      check(to, "to");
      const a = posix.resolve(from).split("/").filter(Boolean);
      const b = posix.resolve(to).split("/").filter(Boolean);
      let same = 0;
      while (same < a.length && same < b.length && a[same] === b[same]) same++;
      return [...Array(a.length - same).fill(".."), ...b.slice(same)].join("/");
    },
    dirname(path) {
      check(path);
      const rooted = path.startsWith("/");
      // Before the last slash that has something else behind it.
      let end = path.length - 1;
      while (end > 0 && path[end] === "/") end--;
      while (end > 0 && path[end] !== "/") end--;
      if (end <= 0) return rooted ? "/" : ".";
      return rooted && end === 1 ? "//" : path.slice(0, end);
    },
    basename(path, suffix = undefined) {
      check(path);
      if (suffix !== undefined) check(suffix, "suffix");
      const end = path.replace(/\/+$/, "");
      const base = end.slice(end.lastIndexOf("/") + 1);
      return suffix !== undefined && base !== suffix && base.endsWith(suffix) ? base.slice(0, base.length - suffix.length) : base;
    },
    extname(path) {
      const base = posix.basename(path);
      const at = base.lastIndexOf(".");
      return at <= 0 || base === ".." ? "" : base.slice(at);
    },
    parse(path) {
      check(path);
      const root = path.startsWith("/") ? "/" : "";
      const base = posix.basename(path);
      const ext = posix.extname(path);
      const at = path.replace(/\/+$/, "").lastIndexOf("/");
      const dir = at > root.length - 1 ? path.slice(0, at) : root;
      return { root, dir, base, ext, name: base.slice(0, base.length - ext.length) };
    },
    format(parts) {
      if (typeof parts !== "object" || parts === null) check(parts, "pathObject");
      const dir = parts.dir || parts.root;
      const ext = parts.ext ? (parts.ext.startsWith(".") ? "" : ".") + parts.ext : "";
      const base = parts.base || `${parts.name ?? ""}${ext}`;
      return dir ? (dir === parts.root ? `${dir}${base}` : `${dir}/${base}`) : base;
    },
    toNamespacedPath: (path) => path,
  };
  posix.posix = posix;
  lib.nodeModules["node:path"] = { ...posix, default: posix };
  lib.nodeModules["node:path/posix"] = lib.nodeModules["node:path"];
})
