// The clock that programs see: `Date`, `Temporal.Now` and `Intl.DateTimeFormat` without an argument all give the time
// of the turn, which stands still while a program computes. No program can time its own instructions.
(function (ops, lib) {
  "use strict";
  const { DatePrototypeToString, Date: NativeDate, ObjectDefineProperty, ObjectGetOwnPropertyDescriptor, ReflectApply, ReflectConstruct } = lib.p;

  const hidden = (value) => ({ __proto__: null, value, writable: true, configurable: true, enumerable: false });

  function Date(...args) {
    if (new.target === undefined) return DatePrototypeToString(new NativeDate(ops.now()));
    return ReflectConstruct(NativeDate, args.length === 0 ? [ops.now()] : args, new.target);
  }
  ObjectDefineProperty(Date, "length", { __proto__: null, value: 7, configurable: true });
  ObjectDefineProperty(Date, "prototype", { __proto__: null, value: NativeDate.prototype, writable: false, enumerable: false, configurable: false });
  ObjectDefineProperty(Date, "now", hidden({ now: () => ops.now() }.now));
  ObjectDefineProperty(Date, "parse", hidden(NativeDate.parse));
  ObjectDefineProperty(Date, "UTC", hidden(NativeDate.UTC));
  ObjectDefineProperty(NativeDate.prototype, "constructor", hidden(Date));
  lib.defineGlobal("Date", Date);
  // What is left of the native constructor must not tell the time either.
  NativeDate.now = Date.now;

  const intl = globalThis.Intl?.DateTimeFormat?.prototype;
  if (intl !== undefined) {
    const { get } = ObjectGetOwnPropertyDescriptor(intl, "format");
    const { formatToParts } = intl;
    ObjectDefineProperty(intl, "format", {
      __proto__: null,
      get: ObjectGetOwnPropertyDescriptor({
        get format() {
          const format = ReflectApply(get, this, []);
          return (date) => format(date === undefined ? ops.now() : date);
        },
      }, "format").get,
      configurable: true,
      enumerable: false,
    });
    ObjectDefineProperty(intl, "formatToParts", hidden({
      formatToParts(date) {
        return ReflectApply(formatToParts, this, [date === undefined ? ops.now() : date]);
      },
    }.formatToParts));
  }

  lib.late.push(() => {
    const temporal = globalThis.Temporal;
    if (temporal === undefined) return;
    const { Instant, Now } = temporal;
    const { timeZoneId } = Now;
    const { fromEpochMilliseconds } = Instant;
    const instant = () => ReflectApply(fromEpochMilliseconds, Instant, [ops.now()]);
    const zoned = (zone) => instant().toZonedDateTimeISO(zone === undefined ? ReflectApply(timeZoneId, Now, []) : zone);
    const replaced = {
      instant: () => instant(),
      zonedDateTimeISO: (zone = undefined) => zoned(zone),
      plainDateTimeISO: (zone = undefined) => zoned(zone).toPlainDateTime(),
      plainDateISO: (zone = undefined) => zoned(zone).toPlainDate(),
      plainTimeISO: (zone = undefined) => zoned(zone).toPlainTime(),
    };
    for (const name of ["instant", "zonedDateTimeISO", "plainDateTimeISO", "plainDateISO", "plainTimeISO"]) {
      ObjectDefineProperty(Now, name, hidden(replaced[name]));
    }
  });
})
