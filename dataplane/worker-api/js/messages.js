// MessageChannel and MessagePort (HTML section 9.4), and what else structuredClone can move: streams. A rare file.
//
// A port's other end is in the same isolate. A message is a turn of its own: a timer of no delay, so it belongs to the request that sends
// it and goes with it; while the module starts, when there are no timers, it is a microtask.
(function (ops, lib) {
  "use strict";
  const { ArrayPrototypePush, ArrayPrototypeShift } = lib.p;

  // What a port is, whoever has its object: moving a port gives it another.
  class Port {
    other = undefined;
    queue = [];
    enabled = false;
    scheduled = false;
    // Undefined while it moves, and once it is closed.
    object = undefined;
  }

  class MessagePort extends lib.EventTarget {
    // Undefined once it was moved away.
    #port;
    constructor(token = undefined, port = undefined) {
      if (token !== lib.internal) throw lib.illegalConstructor();
      super();
      this.#port = port;
      port.object = this;
    }
    postMessage(message, options = undefined) {
      const port = this.#port;
      lib.requireArgs(arguments.length, 1, "postMessage");
      const isList = lib.isObject(options) && options[lib.p.SymbolIterator] !== undefined;
      const transfer = lib.transferList(isList ? options : lib.dictionary(options, "postMessage's options").transfer);
      const { copy, ports } = lib.cloneWithTransfer(message, transfer, this);
      const other = port?.other;
      if (other === undefined) return;
      // A port that is sent to itself goes nowhere.
      for (let i = 0; i < transfer.length; i++) if (transfer[i] === other.object) return;
      ArrayPrototypePush(other.queue, { __proto__: null, data: copy, ports });
      schedule(other);
    }
    start() {
      const port = this.#port;
      if (port === undefined) return;
      port.enabled = true;
      schedule(port);
    }
    close() {
      const port = this.#port;
      if (port === undefined) return;
      const { other } = port;
      disentangle(port);
      if (other !== undefined) {
        later(() => {
          const { object } = other;
          if (object !== undefined) lib.fire(object, new lib.Event("close"));
        });
      }
    }
    static {
      lib.handlerAttributes(MessagePort, ["message", "messageerror", "close"], (object) => object.#port, (object, type) => {
        const port = object.#port;
        if (type !== "message" || port === undefined) return;
        port.enabled = true;
        schedule(port);
      });
      lib.isMessagePort = (value) => lib.isObject(value) && #port in value;
      // For `cloneWithTransfer`: the port's new object, and how the port gets there.
      lib.movePort = (object) => {
        const port = object.#port;
        if (port === undefined) return undefined;
        const made = new MessagePort(lib.internal, new Port());
        return {
          __proto__: null,
          made,
          possible: () => object.#port === port,
          commit() {
            object.#port = undefined;
            made.#port = port;
            port.object = made;
            port.enabled = false;
          },
        };
      };
    }
  }
  lib.defineInterface(MessagePort, "MessagePort");

  function disentangle(port) {
    const { other } = port;
    if (other !== undefined) other.other = undefined;
    port.other = undefined;
  }

  function later(callback) {
    try {
      lib.setTimer(callback, 0);
    } catch {
      lib.queueMicrotask(() => {
        try {
          callback();
        } catch (error) {
          lib.reportException(error);
        }
      });
    }
  }

  function schedule(port) {
    if (!port.enabled || port.scheduled || port.queue.length === 0) return;
    port.scheduled = true;
    later(() => {
      port.scheduled = false;
      const { object } = port;
      // It moved on before the message came: the message waits for its new owner.
      if (!port.enabled || object === undefined || port.queue.length === 0) return;
      const { data, ports } = ArrayPrototypeShift(port.queue);
      schedule(port);
      const event = new lib.MessageEvent("message", { __proto__: null, data });
      lib.setEventPorts(event, ports);
      lib.fire(object, event);
    });
  }

  class MessageChannel {
    #first;
    #second;
    constructor() {
      const first = new Port();
      const second = new Port();
      first.other = second;
      second.other = first;
      this.#first = new MessagePort(lib.internal, first);
      this.#second = new MessagePort(lib.internal, second);
    }
    get port1() {
      return this.#first;
    }
    get port2() {
      return this.#second;
    }
  }
  lib.defineInterface(MessageChannel, "MessageChannel");

  // A stream moves as a new one that is piped to, or from, the old one, each chunk cloned. Undefined for what is no stream that can.
  lib.moveStream = (stream) => {
    const { rs, ws } = lib;
    const readable = lib.isReadableStream(stream);
    if (!readable && !lib.isWritableStream(stream)) return undefined;
    const state = readable ? rs.stateOf(stream) : ws.stateOf(stream);
    const possible = () => readable ? !rs.isLocked(state) : !ws.isLocked(state);
    if (!possible()) return undefined;
    const pair = lib.newTransform((chunk, enqueue) => enqueue(lib.cloneChunk(chunk)));
    return {
      __proto__: null,
      made: readable ? pair.readable : pair.writable,
      possible,
      commit() {
        const from = readable ? state : rs.stateOf(pair.readable);
        const to = readable ? ws.stateOf(pair.writable) : state;
        lib.p.setHandled(rs.pipeTo(from, to, rs.pipeOptions(undefined)));
      },
    };
  };
})
