// HTMLRewriter (the Workers platform): lol_html's tokens as objects, handlers that may give promises. A rare file.
//
// The native rewriter stands still in the middle of a token while its handler runs, however long that waits; what the handler asks of the token
// goes to it one by one. Content that is a stream or a Response is read whole when the handler is done, and then inserted, in the order of
// the calls. Bounds: those of src/ops/html.rs.
(function (ops, lib) {
  "use strict";
  const {
    ArrayPrototypePush, IteratorPrototype, ObjectCreate, ObjectDefineProperty, PromisePrototypeThen, PromiseResolve, ReflectApply, SymbolToStringTag, TypeError,
  } = lib.p;

  // Kinds of tokens, as src/ops/html.rs has them.
  const ELEMENT = 0, COMMENT = 1, TEXT = 2, DOCTYPE = 3, DOCUMENT_END = 4, END_TAG = 5;
  const GONE = "This content token is no longer valid. Content tokens are only valid during the execution of the relevant content handler.";

  // A token while its handler runs.
  class Token {
    rewriter;
    live = true;
    // Calls that wait for content that is a stream: [name, content, html], in order.
    waiting = null;
    // Handlers of end tags are kept with the rewriter.
    endTags;
    constructor(rewriter, endTags) {
      this.rewriter = rewriter;
      this.endTags = endTags;
    }
    ask(name, first, second, html, number) {
      if (!this.live) throw new TypeError(GONE);
      return ops.htmlDo(this.rewriter, name, first, second, html, number);
    }
    insert(name, args) {
      if (!this.live) throw new TypeError(GONE);
      lib.requireArgs(args.length, 1, name);
      const content = args[0];
      const html = args[1] !== undefined && args[1] !== null && !!lib.dictionary(args[1], "The content options").html;
      const streams = lib.isObject(content) && (lib.isReadableStream(content) || lib.isResponse(content));
      if (this.waiting === null && !streams) {
        this.ask(name, lib.usvString(content), undefined, html, 0);
        return;
      }
      this.waiting ??= [];
      ArrayPrototypePush(this.waiting, { __proto__: null, name, content: streams ? takeContent(content) : lib.usvString(content), html });
    }
  }

  function takeContent(content) {
    const body = lib.isResponse(content) ? lib.responseBodyOf(content) : lib.bodyOfStream(content);
    if (body !== null && lib.bodyUnusable(body)) throw lib.bodyUsedError();
    return lib.readBody(body);
  }

  // Inserts what waited for streams.
  function insertWaiting(token, at) {
    const { waiting } = token;
    if (waiting === null || at === waiting.length) return undefined;
    const { name, content, html } = waiting[at];
    if (typeof content === "string") {
      token.ask(name, content, undefined, html, 0);
      return insertWaiting(token, at + 1);
    }
    return PromisePrototypeThen(content, (bytes) => {
      token.ask(name, ops.utf8Decode(bytes), undefined, html, 0);
      return insertWaiting(token, at + 1);
    });
  }

  // Methods that insert content give the token back.
  function addInserting(ctor, tokenOf, names) {
    for (let i = 0; i < names.length; i++) {
      const name = names[i];
      const method = { [name](content, options = undefined) {
        tokenOf(this).insert(name, arguments);
        return this;
      } }[name];
      ObjectDefineProperty(method, "length", { __proto__: null, value: 1, configurable: true });
      ObjectDefineProperty(ctor.prototype, name, { __proto__: null, value: method, writable: true, enumerable: true, configurable: true });
    }
  }
  // The same for calls without arguments.
  function addCalls(ctor, tokenOf, names) {
    for (let i = 0; i < names.length; i++) {
      const name = names[i];
      const method = { [name]() {
        tokenOf(this).ask(name);
        return this;
      } }[name];
      ObjectDefineProperty(ctor.prototype, name, { __proto__: null, value: method, writable: true, enumerable: true, configurable: true });
    }
  }

  let elementToken, commentToken, textToken, endTagToken, documentEndToken;

  class Element {
    #token;
    constructor(key, token) {
      if (key !== lib.internal) throw lib.illegalConstructor();
      this.#token = token;
    }
    static {
      elementToken = (element) => element.#token;
    }
    get tagName() {
      return this.#token.ask("tagName");
    }
    set tagName(value) {
      this.#token.ask("setTagName", lib.usvString(value));
    }
    get namespaceURI() {
      return this.#token.ask("namespaceURI");
    }
    get removed() {
      return this.#token.ask("removed");
    }
    get attributes() {
      const flat = this.#token.ask("attributes");
      const iterator = ObjectCreate(attributesPrototype);
      ObjectDefineProperty(iterator, state, { __proto__: null, value: { __proto__: null, flat, at: 0 } });
      return iterator;
    }
    getAttribute(name) {
      lib.requireArgs(arguments.length, 1, "getAttribute");
      return this.#token.ask("getAttribute", lib.usvString(name));
    }
    hasAttribute(name) {
      lib.requireArgs(arguments.length, 1, "hasAttribute");
      return this.#token.ask("hasAttribute", lib.usvString(name));
    }
    setAttribute(name, value) {
      lib.requireArgs(arguments.length, 2, "setAttribute");
      this.#token.ask("setAttribute", lib.usvString(name), lib.usvString(value));
      return this;
    }
    removeAttribute(name) {
      lib.requireArgs(arguments.length, 1, "removeAttribute");
      this.#token.ask("removeAttribute", lib.usvString(name));
      return this;
    }
    onEndTag(handler) {
      lib.requireArgs(arguments.length, 1, "onEndTag");
      if (typeof handler !== "function") throw new TypeError("The handler of an end tag is not a function");
      const token = this.#token;
      const number = token.endTags.length;
      token.ask("onEndTag", undefined, undefined, false, number);
      ArrayPrototypePush(token.endTags, handler);
    }
  }
  addInserting(Element, (it) => elementToken(it), ["before", "after", "prepend", "append", "replace", "setInnerContent"]);
  addCalls(Element, (it) => elementToken(it), ["remove", "removeAndKeepContent"]);

  // The iterator of an element's attributes: pairs of name and value, as they were.
  const state = lib.p.Symbol("attributes");
  const attributesPrototype = ObjectCreate(IteratorPrototype);
  ObjectDefineProperty(attributesPrototype, "next", { __proto__: null, value: { next() {
    const left = this[state];
    if (left.at >= left.flat.length) return { value: undefined, done: true };
    const pair = [left.flat[left.at], left.flat[left.at + 1]];
    left.at += 2;
    return { value: pair, done: false };
  } }.next, writable: true, enumerable: true, configurable: true });
  ObjectDefineProperty(attributesPrototype, SymbolToStringTag, { __proto__: null, value: "AttributesIterator", configurable: true });

  class Comment {
    #token;
    constructor(key, token) {
      if (key !== lib.internal) throw lib.illegalConstructor();
      this.#token = token;
    }
    static {
      commentToken = (comment) => comment.#token;
    }
    get text() {
      return this.#token.ask("text");
    }
    set text(value) {
      this.#token.ask("setText", lib.usvString(value));
    }
    get removed() {
      return this.#token.ask("removed");
    }
  }
  addInserting(Comment, (it) => commentToken(it), ["before", "after", "replace"]);
  addCalls(Comment, (it) => commentToken(it), ["remove"]);

  class Text {
    #token;
    constructor(key, token) {
      if (key !== lib.internal) throw lib.illegalConstructor();
      this.#token = token;
    }
    static {
      textToken = (text) => text.#token;
    }
    get text() {
      return this.#token.ask("text");
    }
    get lastInTextNode() {
      return this.#token.ask("lastInTextNode");
    }
    get removed() {
      return this.#token.ask("removed");
    }
  }
  addInserting(Text, (it) => textToken(it), ["before", "after", "replace"]);
  addCalls(Text, (it) => textToken(it), ["remove"]);

  class Doctype {
    #token;
    constructor(key, token) {
      if (key !== lib.internal) throw lib.illegalConstructor();
      this.#token = token;
    }
    get name() {
      return this.#token.ask("name");
    }
    get publicId() {
      return this.#token.ask("publicId");
    }
    get systemId() {
      return this.#token.ask("systemId");
    }
  }

  class DocumentEnd {
    #token;
    constructor(key, token) {
      if (key !== lib.internal) throw lib.illegalConstructor();
      this.#token = token;
    }
    static {
      documentEndToken = (end) => end.#token;
    }
  }
  addInserting(DocumentEnd, (it) => documentEndToken(it), ["append"]);

  class EndTag {
    #token;
    constructor(key, token) {
      if (key !== lib.internal) throw lib.illegalConstructor();
      this.#token = token;
    }
    static {
      endTagToken = (tag) => tag.#token;
    }
    get name() {
      return this.#token.ask("name");
    }
    set name(value) {
      this.#token.ask("setName", lib.usvString(value));
    }
  }
  addInserting(EndTag, (it) => endTagToken(it), ["before", "after"]);
  addCalls(EndTag, (it) => endTagToken(it), ["remove"]);

  const CLASSES = [Element, Comment, Text, Doctype, DocumentEnd, EndTag];
  const NAMES = ["Element", "Comment", "Text", "Doctype", "DocumentEnd", "EndTag"];
  for (let i = 0; i < CLASSES.length; i++) {
    ObjectDefineProperty(CLASSES[i].prototype, SymbolToStringTag, { __proto__: null, value: NAMES[i], configurable: true });
  }

  // One rewriting of one body.
  class Rewriting {
    native;
    handlers;
    endTags = [];
    constructor(charset, flat, handlers) {
      this.handlers = handlers;
      this.native = ops.htmlNew(charset, flat);
    }

    // Goes on until the native rewriter wants more input: undefined, or a promise where a handler gave one.
    go(step, enqueue) {
      for (;;) {
        this.give(enqueue);
        if (step === true || step === false) return undefined;
        const token = new Token(this.native, this.endTags);
        let wait;
        try {
          wait = this.handle(step[0], step[1], token);
          if (!lib.isObject(wait) && token.waiting === null) wait = undefined;
        } catch (error) {
          this.fail(token, error);
        }
        if (wait !== undefined || token.waiting !== null) {
          return PromisePrototypeThen(PromisePrototypeThen(PromiseResolve(wait), () => insertWaiting(token, 0)), () => {
            token.live = false;
            return this.go(ops.htmlNext(this.native), enqueue);
          }, (error) => this.fail(token, error));
        }
        token.live = false;
        step = ops.htmlNext(this.native);
      }
    }

    handle(kind, number, token) {
      const object = new CLASSES[kind](lib.internal, token);
      if (kind === END_TAG) {
        const handler = this.endTags[number];
        this.endTags[number] = undefined;
        return ReflectApply(handler, undefined, [object]);
      }
      const { on, functions } = this.handlers[number];
      return ReflectApply(functions[kind], on, [object]);
    }

    give(enqueue) {
      const bytes = ops.htmlOutput(this.native);
      if (bytes !== null) enqueue(bytes);
    }

    fail(token, error) {
      token.live = false;
      ops.htmlDrop(this.native);
      throw error;
    }
  }

  const ELEMENT_HANDLERS = { __proto__: null, element: ELEMENT, comments: COMMENT, text: TEXT };
  const DOCUMENT_HANDLERS = { __proto__: null, doctype: DOCTYPE, comments: COMMENT, text: TEXT, end: DOCUMENT_END };

  // The functions of an object of handlers, by kind, and which there are, as bits.
  function readHandlers(on, known) {
    if (!lib.isObject(on)) throw new TypeError("The handlers are not an object");
    const functions = [];
    let kinds = 0;
    for (const name in known) {
      const handler = on[name];
      if (handler === undefined || handler === null) continue;
      if (typeof handler !== "function") throw new TypeError(`The handler "${name}" is not a function`);
      functions[known[name]] = handler;
      kinds |= 1 << known[name];
    }
    return { __proto__: null, on, functions, kinds };
  }

  function copyArray(array) {
    const copy = [];
    for (let i = 0; i < array.length; i++) ArrayPrototypePush(copy, array[i]);
    return copy;
  }

  const through = (stream, pair) => {
    lib.p.setHandled(lib.rs.pipeTo(lib.rs.stateOf(stream), lib.ws.stateOf(pair.writable), lib.rs.pipeOptions(undefined)));
    return pair.readable;
  };

  class HTMLRewriter {
    #flat = [];
    #handlers = [];
    on(selector, handlers) {
      lib.requireArgs(arguments.length, 2, "on");
      const text = lib.usvString(selector);
      const wrong = ops.htmlSelector(text);
      if (wrong !== null) throw new TypeError(`Parser error: ${wrong}`);
      this.#add(text, readHandlers(handlers, ELEMENT_HANDLERS));
      return this;
    }
    onDocument(handlers) {
      lib.requireArgs(arguments.length, 1, "onDocument");
      this.#add(null, readHandlers(handlers, DOCUMENT_HANDLERS));
      return this;
    }
    #add(selector, read) {
      ArrayPrototypePush(this.#flat, selector, read.kinds);
      ArrayPrototypePush(this.#handlers, read);
    }
    transform(response) {
      lib.requireArgs(arguments.length, 1, "transform");
      if (!lib.isResponse(response)) throw new TypeError("The argument of transform is not a Response");
      const body = lib.responseBodyOf(response);
      if (body === null) return lib.responseLike(response, null);
      if (lib.bodyUnusable(body)) throw lib.bodyUsedError();
      const list = lib.responseList(response);
      const type = lib.headerListGet(list, "content-type");
      const charset = (type === null ? undefined : lib.parseParameters(type, undefined).get("charset")) ?? "utf-8";
      const rewriting = new Rewriting(lib.usvString(charset), this.#flat, copyArray(this.#handlers));
      if (rewriting.native === null) throw new TypeError(`HTML in the encoding "${charset}" cannot be rewritten`);
      const pair = lib.newTransform(
        (chunk, enqueue) => {
          if (!lib.isBufferSource(chunk)) throw new TypeError("A chunk of the body is neither an ArrayBuffer nor a view of one");
          return rewriting.go(ops.htmlWrite(rewriting.native, lib.bytesOf(chunk)), enqueue);
        },
        (enqueue) => rewriting.go(ops.htmlWrite(rewriting.native, null), enqueue),
      );
      return lib.responseLike(response, lib.bodyOfStream(through(lib.bodyStream(lib.moveBody(body)), pair)));
    }
  }
  lib.defineInterface(HTMLRewriter, "HTMLRewriter");
})
