// Events (DOM section 2): Event, CustomEvent, MessageEvent, ErrorEvent, PromiseRejectionEvent, EventTarget.
//
// Owns the dispatch algorithm for targets without a tree: the path is the target alone. The global object has the
// three methods of EventTarget too. A listener's exception goes to `lib.reportException` and stops nothing.
(function (ops, lib) {
  "use strict";
  const { ArrayPrototypePush, ArrayPrototypeSlice, ArrayPrototypeSplice, ObjectDefineProperty, ObjectFreeze, ObjectGetOwnPropertyDescriptor, ReflectApply, TypeError } = lib.p;
  const { dictionary, domString, requireArgs } = lib;

  const NONE = 0;
  const CAPTURING_PHASE = 1;
  const AT_TARGET = 2;
  const BUBBLING_PHASE = 3;

  class Event {
    #type;
    #bubbles;
    #cancelable;
    #composed;
    #target = null;
    #currentTarget = null;
    #phase = NONE;
    #stop = false;
    #stopNow = false;
    #canceled = false;
    #inPassive = false;
    #dispatching = false;
    #initialized = true;
    #trusted = false;
    #timeStamp = lib.now();

    constructor(type, init = undefined) {
      requireArgs(arguments.length, 1, "Event");
      this.#type = domString(type);
      const options = dictionary(init, "Event init");
      this.#bubbles = !!options.bubbles;
      this.#cancelable = !!options.cancelable;
      this.#composed = !!options.composed;
    }

    get type() {
      return this.#type;
    }
    get target() {
      return this.#target;
    }
    get srcElement() {
      return this.#target;
    }
    get currentTarget() {
      return this.#currentTarget;
    }
    composedPath() {
      return this.#currentTarget === null ? [] : [this.#currentTarget];
    }
    get eventPhase() {
      return this.#phase;
    }
    stopPropagation() {
      this.#stop = true;
    }
    get cancelBubble() {
      return this.#stop;
    }
    set cancelBubble(value) {
      this.#stop ||= !!value;
    }
    stopImmediatePropagation() {
      this.#stop = true;
      this.#stopNow = true;
    }
    get bubbles() {
      return this.#bubbles;
    }
    get cancelable() {
      return this.#cancelable;
    }
    get returnValue() {
      return !this.#canceled;
    }
    set returnValue(value) {
      if (this.#cancelable && !this.#inPassive && !value) this.#canceled = true;
    }
    preventDefault() {
      if (this.#cancelable && !this.#inPassive) this.#canceled = true;
    }
    get defaultPrevented() {
      return this.#canceled;
    }
    get composed() {
      return this.#composed;
    }
    get isTrusted() {
      return this.#trusted;
    }
    get timeStamp() {
      return this.#timeStamp;
    }
    initEvent(type, bubbles = false, cancelable = false) {
      requireArgs(arguments.length, 1, "initEvent");
      if (this.#dispatching) return;
      this.#initialized = true;
      this.#stop = false;
      this.#stopNow = false;
      this.#canceled = false;
      this.#trusted = false;
      this.#target = null;
      this.#type = domString(type);
      this.#bubbles = !!bubbles;
      this.#cancelable = !!cancelable;
    }

    static {
      lib.isEvent = (value) => lib.isObject(value) && #type in value;
      lib.trustEvent = (event) => {
        event.#trusted = true;
        return event;
      };
      // Runs the listeners of `target`; false if the event was cancelled.
      lib.dispatch = (event, target, listeners) => {
        event.#dispatching = true;
        event.#target = target;
        event.#currentTarget = target;
        event.#phase = AT_TARGET;
        if (listeners !== undefined) {
          const list = ArrayPrototypeSlice(listeners);
          for (let pass = 0; pass < 2; pass++) {
            if (event.#stop) break;
            for (let i = 0; i < list.length; i++) {
              const listener = list[i];
              if (listener.removed || listener.capture !== (pass === 0) || listener.type !== event.#type) continue;
              if (listener.once) removeListener(listeners, listener);
              event.#inPassive = listener.passive;
              try {
                const { callback } = listener;
                if (typeof callback === "function") {
                  ReflectApply(callback, target, [event]);
                } else {
                  const { handleEvent } = callback;
                  if (typeof handleEvent !== "function") throw new TypeError("The listener's handleEvent is not a function");
                  ReflectApply(handleEvent, callback, [event]);
                }
              } catch (error) {
                lib.reportException(error);
              }
              event.#inPassive = false;
              if (event.#stopNow) break;
            }
            if (event.#stopNow) break;
          }
        }
        event.#phase = NONE;
        event.#currentTarget = null;
        event.#dispatching = false;
        event.#stop = false;
        event.#stopNow = false;
        return !event.#canceled;
      };
      lib.eventBusy = (event) => event.#dispatching || !event.#initialized;
      lib.untrustEvent = (event) => {
        event.#trusted = false;
      };
      lib.eventType = (event) => event.#type;
    }
  }
  lib.defineInterface(Event, "Event");
  lib.defineConstants(Event, { NONE, CAPTURING_PHASE, AT_TARGET, BUBBLING_PHASE });
  lib.Event = Event;

  function removeListener(listeners, listener) {
    listener.removed = true;
    for (let i = 0; i < listeners.length; i++) {
      if (listeners[i] === listener) {
        ArrayPrototypeSplice(listeners, i, 1);
        return;
      }
    }
  }

  // One registration. `handler` is the attribute's event type for `onabort` and the like; `original` is its function.
  class Listener {
    type;
    callback;
    capture;
    once;
    passive;
    handler;
    original = undefined;
    removed = false;
    constructor(type, callback, capture, once, passive, handler) {
      this.type = type;
      this.callback = callback;
      this.capture = capture;
      this.once = once;
      this.passive = passive;
      this.handler = handler;
    }
  }

  class EventTarget {
    // Created by the first listener: most targets (request signals, streams) never have one.
    #listeners = undefined;

    addEventListener(type, callback, options = undefined) {
      requireArgs(arguments.length, 2, "addEventListener");
      lib.addListener(this, type, callback, options);
    }

    removeEventListener(type, callback, options = undefined) {
      requireArgs(arguments.length, 2, "removeEventListener");
      lib.removeListener(this, type, callback, options);
    }

    dispatchEvent(event) {
      requireArgs(arguments.length, 1, "dispatchEvent");
      return lib.dispatchChecked(this, event);
    }

    static {
      lib.addListener = (target, type, callback, options) => {
        const listeners = target.#listeners ??= [];
        const name = domString(type);
        let capture;
        let once = false;
        let passive = false;
        let signal;
        if (lib.isObject(options)) {
          capture = !!options.capture;
          once = !!options.once;
          passive = !!options.passive;
          signal = options.signal;
          if (signal !== undefined && !lib.isAbortSignal(signal)) throw new TypeError("options.signal is not an AbortSignal");
        } else {
          capture = !!options;
        }
        if (callback === null || callback === undefined) return;
        if (!lib.isObject(callback)) throw new TypeError("The listener is neither a function nor an object");
        if (signal !== undefined && lib.signalAborted(signal)) return;
        for (let i = 0; i < listeners.length; i++) {
          const l = listeners[i];
          if (l.type === name && l.callback === callback && l.capture === capture && l.handler === undefined) return;
        }
        const listener = new Listener(name, callback, capture, once, passive, undefined);
        ArrayPrototypePush(listeners, listener);
        if (signal !== undefined) lib.addAbortAlgorithm(signal, () => removeListener(listeners, listener));
        if (name === "abort" && lib.isAbortSignal(target)) lib.keepSignal(target);
      };
      lib.removeListener = (target, type, callback, options) => {
        const listeners = target.#listeners;
        const name = domString(type);
        const capture = lib.isObject(options) ? !!options.capture : !!options;
        if (listeners === undefined) return;
        for (let i = 0; i < listeners.length; i++) {
          const l = listeners[i];
          if (l.type === name && l.callback === callback && l.capture === capture && l.handler === undefined) {
            removeListener(listeners, l);
            return;
          }
        }
      };
      lib.dispatchChecked = (target, event) => {
        const listeners = target.#listeners;
        if (!lib.isEvent(event)) throw new TypeError("dispatchEvent: the argument is not an Event");
        if (lib.eventBusy(event)) throw new lib.DOMException("The event is already being dispatched", "InvalidStateError");
        lib.untrustEvent(event);
        return lib.dispatch(event, target === globalTarget ? globalThis : target, listeners);
      };
      lib.isEventTarget = (value) => lib.isObject(value) && #listeners in value;
      lib.hasListeners = (target) => target.#listeners !== undefined && target.#listeners.length > 0;
      // Dispatches an event that the runtime made.
      lib.fire = (target, event) => lib.dispatch(lib.trustEvent(event), target === globalTarget ? globalThis : target, target.#listeners);
      // Event handler attributes (HTML section 8.1.8.1): `onabort` and the like.
      lib.getHandler = (target, type) => {
        const listeners = target.#listeners;
        if (listeners === undefined) return null;
        for (let i = 0; i < listeners.length; i++) {
          if (listeners[i].handler === type) return listeners[i].original;
        }
        return null;
      };
      // Puts `on<type>` on an interface's prototype. `brand` throws for what is no instance; `set` is told that one was set.
      lib.handlerAttributes = ({ prototype }, types, brand, set = undefined) => {
        for (let i = 0; i < types.length; i++) {
          const type = types[i];
          const name = `on${type}`;
          const { get, set: put } = ObjectGetOwnPropertyDescriptor({
            get [name]() {
              brand(this);
              return lib.getHandler(this, type);
            },
            set [name](value) {
              brand(this);
              lib.setHandler(this, type, value);
              set?.(this, type);
            },
          }, name);
          ObjectDefineProperty(prototype, name, { __proto__: null, get, set: put, enumerable: true, configurable: true });
        }
      };
      lib.setHandler = (target, type, value) => {
        const listeners = target.#listeners ??= [];
        const handler = lib.isObject(value) ? value : null;
        for (let i = 0; i < listeners.length; i++) {
          if (listeners[i].handler === type) {
            if (handler === null) removeListener(listeners, listeners[i]);
            else listeners[i].original = handler;
            return;
          }
        }
        if (handler === null) return;
        const listener = new Listener(type, undefined, false, false, false, type);
        listener.original = handler;
        listener.callback = function (event) {
          const { original } = listener;
          if (typeof original !== "function") return;
          // OnErrorEventHandler: other arguments, and true is what cancels.
          if (type === "error" && target === globalTarget && lib.isErrorEvent(event)) {
            if (ReflectApply(original, this, [event.message, event.filename, event.lineno, event.colno, event.error]) === true) event.preventDefault();
            return;
          }
          if (ReflectApply(original, this, [event]) === false) event.preventDefault();
        };
        ArrayPrototypePush(listeners, listener);
        if (type === "abort" && lib.isAbortSignal(target)) lib.keepSignal(target);
      };
    }
  }
  lib.defineInterface(EventTarget, "EventTarget");
  lib.EventTarget = EventTarget;

  class CustomEvent extends Event {
    #detail;
    constructor(type, init = undefined) {
      requireArgs(arguments.length, 1, "CustomEvent");
      super(type, init);
      const { detail } = dictionary(init, "CustomEvent init");
      this.#detail = detail === undefined ? null : detail;
    }
    get detail() {
      return this.#detail;
    }
    initCustomEvent(type, bubbles = false, cancelable = false, detail = null) {
      requireArgs(arguments.length, 1, "initCustomEvent");
      if (lib.eventBusy(this)) return;
      this.initEvent(type, bubbles, cancelable);
      this.#detail = detail;
    }
  }
  lib.defineInterface(CustomEvent, "CustomEvent");

  class MessageEvent extends Event {
    #data;
    #origin;
    #lastEventId;
    #source;
    #ports;
    constructor(type, init = undefined) {
      requireArgs(arguments.length, 1, "MessageEvent");
      super(type, init);
      const options = dictionary(init, "MessageEvent init");
      this.#data = options.data === undefined ? null : options.data;
      this.#origin = options.origin === undefined ? "" : lib.usvString(options.origin);
      this.#lastEventId = options.lastEventId === undefined ? "" : domString(options.lastEventId);
      this.#source = options.source ?? null;
      const ports = [];
      if (options.ports !== undefined) {
        lib.iterate(options.ports, "MessageEvent init's ports", (port) => {
          if (!lib.isMessagePort?.(port)) throw new TypeError("MessageEvent init's ports has a value that is no MessagePort");
          ArrayPrototypePush(ports, port);
        });
      }
      this.#ports = ObjectFreeze(ports);
    }
    get data() {
      return this.#data;
    }
    get origin() {
      return this.#origin;
    }
    get lastEventId() {
      return this.#lastEventId;
    }
    get source() {
      return this.#source;
    }
    get ports() {
      return this.#ports;
    }
    static {
      lib.setEventPorts = (event, ports) => {
        event.#ports = ObjectFreeze(ports);
      };
    }
  }
  lib.defineInterface(MessageEvent, "MessageEvent");
  lib.MessageEvent = MessageEvent;

  class ErrorEvent extends Event {
    #message;
    #filename;
    #lineno;
    #colno;
    #error;
    constructor(type, init = undefined) {
      requireArgs(arguments.length, 1, "ErrorEvent");
      super(type, init);
      const options = dictionary(init, "ErrorEvent init");
      this.#message = options.message === undefined ? "" : domString(options.message);
      this.#filename = options.filename === undefined ? "" : lib.usvString(options.filename);
      this.#lineno = lib.unsignedMod(options.lineno ?? 0, 4294967296);
      this.#colno = lib.unsignedMod(options.colno ?? 0, 4294967296);
      this.#error = options.error;
    }
    get message() {
      return this.#message;
    }
    get filename() {
      return this.#filename;
    }
    get lineno() {
      return this.#lineno;
    }
    get colno() {
      return this.#colno;
    }
    get error() {
      return this.#error;
    }
    static {
      lib.isErrorEvent = (value) => #error in value;
    }
  }
  lib.defineInterface(ErrorEvent, "ErrorEvent");
  lib.ErrorEvent = ErrorEvent;

  class PromiseRejectionEvent extends Event {
    #promise;
    #reason;
    constructor(type, init) {
      requireArgs(arguments.length, 2, "PromiseRejectionEvent");
      super(type, init);
      const options = dictionary(init, "PromiseRejectionEvent init");
      if (!lib.isObject(options.promise)) throw new TypeError("PromiseRejectionEvent init has no promise");
      this.#promise = options.promise;
      this.#reason = options.reason;
    }
    get promise() {
      return this.#promise;
    }
    get reason() {
      return this.#reason;
    }
  }
  lib.defineInterface(PromiseRejectionEvent, "PromiseRejectionEvent");
  lib.PromiseRejectionEvent = PromiseRejectionEvent;

  // The global object is an event target by these three functions.
  const globalTarget = new EventTarget();
  lib.globalTarget = globalTarget;
  lib.defineGlobal("addEventListener", function addEventListener(type, callback, options = undefined) {
    requireArgs(arguments.length, 2, "addEventListener");
    lib.addListener(globalTarget, type, callback, options);
  });
  lib.defineGlobal("removeEventListener", function removeEventListener(type, callback, options = undefined) {
    requireArgs(arguments.length, 2, "removeEventListener");
    lib.removeListener(globalTarget, type, callback, options);
  });
  lib.defineGlobal("dispatchEvent", function dispatchEvent(event) {
    requireArgs(arguments.length, 1, "dispatchEvent");
    return lib.dispatchChecked(globalTarget, event);
  });
})
