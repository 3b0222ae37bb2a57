//! HTMLRewriter's native half: lol_html, each rewriter on a fiber of its own, so that its handlers can wait for JavaScript.
//!
//! A handler of lol_html leaves the fiber with [`Out::Event`]; what JavaScript wants done with the token comes as [`In::Do`], one after the
//! other, until [`In::Next`]. So no reference to a token ever leaves the fiber.
//! *Bounds:* [`MEMORY_MAX`] of what one rewriter keeps of its input, which counts as the isolate's as it grows; [`SELECTORS_MAX`] handlers.

use std::{borrow::Cow, cell::RefCell, rc::Rc};

use isolate::{Args, CountedBytes, Fiber, OpError, OpResult, OpTable, Port, Scope, Value};
use lol_html::{
    AsciiCompatibleEncoding, DocumentContentHandlers, ElementContentHandlers, HandlerResult, HtmlRewriter,
    MemorySettings, Selector, Settings,
    html_content::{Comment, ContentType, Doctype, DocumentEnd, Element, EndTag, TextChunk},
};

pub(crate) fn register(ops: &mut OpTable) {
    ops.add("htmlSelector", html_selector);
    ops.add("htmlNew", html_new);
    ops.add("htmlWrite", html_write);
    ops.add("htmlNext", html_next);
    ops.add("htmlDo", html_do);
    ops.add("htmlOutput", html_output);
    ops.add("htmlDrop", html_drop);
}

/// What a rewriter may keep of its input: one tag or comment, bytes. As on Cloudflare.
const MEMORY_MAX: usize = 3 << 20;
/// What a rewriter takes by itself: the touched part of its stack, its state; bytes.
const BASE_BYTES: usize = 96 << 10;
/// Address space of its stack, bytes.
const STACK_BYTES: usize = 256 << 10;
/// `on` and `onDocument` calls of one rewriter.
const SELECTORS_MAX: usize = 1024;
/// What a rewriter may make of one chunk before JavaScript takes it, bytes.
const OUTPUT_MAX: usize = 32 << 20;

/// Into the fiber.
enum In {
    Write(Vec<u8>),
    End,
    Do(Command),
    Next,
    Stop,
}

/// Out of it.
enum Out {
    /// A handler is to run: which kind of token, and the handler's number.
    Event(u8, u32),
    Reply(Reply),
    /// All input was read.
    Idle,
    Failed(String),
}

struct Command {
    name: String,
    first: Option<String>,
    second: Option<String>,
    html: bool,
    number: u32,
}

enum Reply {
    None,
    Text(Option<String>),
    Flag(bool),
    List(Vec<String>),
    Bad(String),
}

type Ask = Port<In, Out>;
type Output = Rc<RefCell<Vec<u8>>>;

/// Kinds of tokens, as html_rewriter.js has them.
const ELEMENT: u8 = 0;
const COMMENT: u8 = 1;
const TEXT: u8 = 2;
const DOCTYPE: u8 = 3;
const DOCUMENT_END: u8 = 4;
const END_TAG: u8 = 5;

/// Which handlers one `on` or `onDocument` has, as bits by kind; no selector: the document's.
struct Wanted {
    selector: Option<Selector>,
    kinds: u32,
    number: u32,
}

struct Rewriter {
    fiber: Option<Fiber<In, Out>>,
    output: Output,
    /// Bytes that came in since something went out: at least what lol_html keeps.
    kept: usize,
    charged: usize,
    charge: Vec<CountedBytes>,
}

/// `htmlSelector(text)`: `null` if it is a selector, else what is wrong with it.
fn html_selector<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let text = args.string(cx, 0)?;
    Ok(match text.parse::<Selector>() {
        Ok(_) => cx.null(),
        Err(error) => cx.string(&error.to_string()),
    })
}

/// `htmlNew(charset, handlers)`: handlers is a flat array of selector or `null`, and bits of the kinds that it wants. `null`: the charset is none
/// that HTML can be rewritten in.
fn html_new<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let label = args.string(cx, 0)?;
    let encoding = encoding_rs::Encoding::for_label(label.as_bytes()).and_then(AsciiCompatibleEncoding::new);
    let Some(encoding) = encoding else { return Ok(cx.null()) };
    let list = args.get(1);
    let count = cx.array_len(list) / 2;
    if count as usize > SELECTORS_MAX {
        return Err(OpError::range_error(format!("A rewriter has at most {SELECTORS_MAX} handlers")));
    }
    let mut wanted = Vec::with_capacity(count as usize);
    for number in 0..count {
        let selector = cx.element(list, number * 2).and_then(|text| cx.text(text));
        let selector = match selector.map(|text| text.parse::<Selector>()) {
            Some(Ok(selector)) => Some(selector),
            Some(Err(error)) => return Err(OpError::type_error(error.to_string())),
            None => None,
        };
        let kinds = cx.element(list, number * 2 + 1).and_then(Value::as_f64).unwrap_or_default() as u32;
        wanted.push(Wanted { selector, kinds, number });
    }
    let output = Output::default();
    let sink = Rc::clone(&output);
    let fiber = Fiber::new(STACK_BYTES, move |port, first| run(&port, first, encoding, wanted, &sink));
    let fiber = fiber.map_err(|_| OpError::out_of_memory())?;
    let mut rewriter = Rewriter { fiber: Some(fiber), output, kept: 0, charged: 0, charge: Vec::new() };
    rewriter.charge(cx, BASE_BYTES)?;
    cx.handle(rewriter).ok_or_else(OpError::out_of_memory)
}

impl Rewriter {
    /// Counts `bytes` more as the isolate's.
    fn charge(&mut self, cx: &Scope<'_, '_>, bytes: usize) -> Result<(), OpError> {
        // Memory that nobody touches: only the count is wanted.
        let counted = cx.counted(Vec::with_capacity(bytes)).ok_or_else(OpError::out_of_memory)?;
        self.charge.push(counted);
        self.charged += bytes;
        Ok(())
    }
}

/// The fiber's code.
fn run(port: &Ask, first: In, encoding: AsciiCompatibleEncoding, wanted: Vec<Wanted>, output: &Output) {
    let memory = MemorySettings::new().with_max_allowed_memory_usage(MEMORY_MAX);
    let mut settings = Settings::new().with_encoding(encoding).with_memory_settings(memory);
    for Wanted { selector, kinds, number } in wanted {
        let has = |kind: u8| kinds & 1 << kind != 0;
        let ask = || port.clone();
        if let Some(selector) = selector {
            let mut handlers = ElementContentHandlers::default();
            if has(ELEMENT) {
                let port = ask();
                handlers = handlers.element(move |it: &mut Element<'_, '_>| {
                    serve(&port, ELEMENT, number, |command| element(it, command, &port))
                });
            }
            if has(COMMENT) {
                let port = ask();
                handlers = handlers.comments(move |it: &mut Comment<'_>| {
                    serve(&port, COMMENT, number, |command| comment(it, command))
                });
            }
            if has(TEXT) {
                let port = ask();
                handlers = handlers
                    .text(move |it: &mut TextChunk<'_>| serve(&port, TEXT, number, |command| text(it, command)));
            }
            settings = settings.append_element_content_handler((Cow::Owned(selector), handlers));
            continue;
        }
        let mut handlers = DocumentContentHandlers::default();
        if has(DOCTYPE) {
            let port = ask();
            handlers = handlers
                .doctype(move |it: &mut Doctype<'_>| serve(&port, DOCTYPE, number, |command| doctype(it, command)));
        }
        if has(COMMENT) {
            let port = ask();
            handlers = handlers
                .comments(move |it: &mut Comment<'_>| serve(&port, COMMENT, number, |command| comment(it, command)));
        }
        if has(TEXT) {
            let port = ask();
            handlers =
                handlers.text(move |it: &mut TextChunk<'_>| serve(&port, TEXT, number, |command| text(it, command)));
        }
        if has(DOCUMENT_END) {
            let port = ask();
            handlers = handlers.end(move |it: &mut DocumentEnd<'_>| {
                serve(&port, DOCUMENT_END, number, |command| document_end(it, command))
            });
        }
        settings = settings.append_document_content_handler(handlers);
    }
    let mut rewriter = HtmlRewriter::new(settings, |bytes: &[u8]| output.borrow_mut().extend_from_slice(bytes));
    let mut input = first;
    loop {
        input = match input {
            In::Write(bytes) => match rewriter.write(&bytes) {
                Ok(()) => port.exchange(Out::Idle),
                Err(error) => {
                    port.exchange(Out::Failed(error.to_string()));
                    return;
                }
            },
            In::End => {
                if let Err(error) = rewriter.end() {
                    port.exchange(Out::Failed(error.to_string()));
                }
                return;
            }
            In::Do(_) | In::Next => port.exchange(Out::Reply(Reply::Bad(GONE.to_owned()))),
            In::Stop => return,
        };
    }
}

const GONE: &str = "This content token is no longer valid. Content tokens are only valid during the execution of the relevant content handler.";

/// Lets JavaScript work on a token until it is done with it.
fn serve(port: &Ask, kind: u8, number: u32, mut work: impl FnMut(&Command) -> Reply) -> HandlerResult {
    let mut input = port.exchange(Out::Event(kind, number));
    loop {
        input = match input {
            In::Do(command) => port.exchange(Out::Reply(work(&command))),
            In::Next => return Ok(()),
            In::Write(_) | In::End | In::Stop => return Err("a content handler failed".into()),
        };
    }
}

impl Command {
    fn first(&self) -> &str {
        self.first.as_deref().unwrap_or_default()
    }

    fn kind(&self) -> ContentType {
        if self.html { ContentType::Html } else { ContentType::Text }
    }
}

fn done<E: std::fmt::Display>(result: Result<(), E>) -> Reply {
    result.map_or_else(|error| Reply::Bad(error.to_string()), |()| Reply::None)
}

/// Methods that several kinds of tokens have: `$it.before(…)` and the like; none: `$otherwise`.
macro_rules! content {
    ($it:ident, $command:ident, [$($name:literal $method:ident),*], $otherwise:expr) => {
        match &$command.name[..] {
            $($name => { $it.$method($command.first(), $command.kind()); Reply::None })*
            _ => $otherwise,
        }
    };
}

fn element(it: &mut Element<'_, '_>, command: &Command, port: &Ask) -> Reply {
    match &command.name[..] {
        "tagName" => Reply::Text(Some(it.tag_name())),
        "setTagName" => done(it.set_tag_name(command.first())),
        "namespaceURI" => Reply::Text(Some(it.namespace_uri().to_owned())),
        "removed" => Reply::Flag(it.removed()),
        "selfClosing" => Reply::Flag(it.is_self_closing()),
        "canHaveContent" => Reply::Flag(it.can_have_content()),
        "attributes" => Reply::List(it.attributes().iter().flat_map(|it| [it.name(), it.value()]).collect()),
        "getAttribute" => Reply::Text(it.get_attribute(command.first())),
        "hasAttribute" => Reply::Flag(it.has_attribute(command.first())),
        "setAttribute" => done(it.set_attribute(command.first(), command.second.as_deref().unwrap_or_default())),
        "removeAttribute" => {
            it.remove_attribute(command.first());
            Reply::None
        }
        "remove" => {
            it.remove();
            Reply::None
        }
        "removeAndKeepContent" => {
            it.remove_and_keep_content();
            Reply::None
        }
        "onEndTag" => {
            let (port, number) = (port.clone(), command.number);
            let handler = move |it: &mut EndTag<'_>| serve(&port, END_TAG, number, |command| end_tag(it, command));
            done(it.on_end_tag(Box::new(handler)))
        }
        _ => content!(
            it,
            command,
            ["before" before, "after" after, "prepend" prepend, "append" append, "replace" replace, "setInnerContent" set_inner_content],
            unknown()
        ),
    }
}

fn comment(it: &mut Comment<'_>, command: &Command) -> Reply {
    match &command.name[..] {
        "text" => Reply::Text(Some(it.text())),
        "setText" => done(it.set_text(command.first())),
        "removed" => Reply::Flag(it.removed()),
        "remove" => {
            it.remove();
            Reply::None
        }
        _ => content!(it, command, ["before" before, "after" after, "replace" replace], unknown()),
    }
}

fn text(it: &mut TextChunk<'_>, command: &Command) -> Reply {
    match &command.name[..] {
        "text" => Reply::Text(Some(it.as_str().to_owned())),
        "lastInTextNode" => Reply::Flag(it.last_in_text_node()),
        "removed" => Reply::Flag(it.removed()),
        "remove" => {
            it.remove();
            Reply::None
        }
        _ => content!(it, command, ["before" before, "after" after, "replace" replace], unknown()),
    }
}

fn doctype(it: &mut Doctype<'_>, command: &Command) -> Reply {
    match &command.name[..] {
        "name" => Reply::Text(it.name()),
        "publicId" => Reply::Text(it.public_id()),
        "systemId" => Reply::Text(it.system_id()),
        _ => unknown(),
    }
}

fn document_end(it: &mut DocumentEnd<'_>, command: &Command) -> Reply {
    content!(it, command, ["append" append], unknown())
}

fn end_tag(it: &mut EndTag<'_>, command: &Command) -> Reply {
    match &command.name[..] {
        "name" => Reply::Text(Some(it.name())),
        "setName" if command.first().is_empty() => Reply::Bad("Tag name can't be empty.".to_owned()),
        "setName" => {
            it.set_name_str(command.first().to_owned());
            Reply::None
        }
        "remove" => {
            it.remove();
            Reply::None
        }
        _ => content!(it, command, ["before" before, "after" after, "replace" replace], unknown()),
    }
}

fn unknown() -> Reply {
    Reply::Bad("this content token has no such method".to_owned())
}

/// Goes on with the fiber. `[kind, handler]` of a handler that is to run; `true`: the input was read; `false`: all is done. It throws what lol_html
/// says.
fn go_on<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>, input: In) -> OpResult<'s> {
    let more = if let In::Write(bytes) = &input { bytes.len() } else { 0 };
    let went = cx.with_handle::<Rewriter, _>(args.get(0), |rewriter| {
        let before = rewriter.output.borrow().len();
        let out = rewriter.fiber.as_mut().and_then(|fiber| fiber.resume(input));
        let after = rewriter.output.borrow().len();
        rewriter.kept = if after > before { more } else { rewriter.kept + more };
        if out.is_none() || matches!(out, Some(Out::Failed(_))) {
            rewriter.fiber = None;
        }
        (out, after + rewriter.kept.min(MEMORY_MAX), rewriter.charged)
    });
    let (out, holds, charged) = went.ok_or_else(|| OpError::type_error("not a rewriter"))?;
    if holds > charged && holds > BASE_BYTES {
        recharge(cx, args.get(0), holds)?;
    }
    match out {
        Some(Out::Event(kind, number)) => {
            let items = [cx.integer(i32::from(kind)), cx.id(u64::from(number))];
            Ok(cx.array(&items))
        }
        Some(Out::Idle) => Ok(cx.boolean(true)),
        None => Ok(cx.boolean(false)),
        Some(Out::Failed(message)) => Err(OpError::type_error(message)),
        Some(Out::Reply(_)) => Err(OpError::type_error(GONE)),
    }
}

/// Counts what a rewriter holds; gives it up where that does not fit.
#[cold]
fn recharge<'s>(cx: &mut Scope<'s, '_>, handle: Value<'s>, holds: usize) -> Result<(), OpError> {
    let fits = holds <= OUTPUT_MAX;
    let counted = if fits { cx.counted(Vec::with_capacity(holds.next_power_of_two())) } else { None };
    let done = cx.with_handle::<Rewriter, _>(handle, |rewriter| match counted {
        Some(counted) => {
            rewriter.charged = holds.next_power_of_two();
            rewriter.charge = vec![counted];
            true
        }
        None => {
            rewriter.fiber = None;
            false
        }
    });
    if done == Some(true) { Ok(()) } else { Err(OpError::out_of_memory()) }
}

/// `htmlWrite(rewriter, bytes | null)`: more input, or its end.
fn html_write<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let input = if args.get(1).is_null_or_undefined() { In::End } else { In::Write(args.bytes(cx, 1)?) };
    go_on(cx, args, input)
}

/// `htmlNext(rewriter)`: the handler has run.
fn html_next<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    go_on(cx, args, In::Next)
}

/// `htmlDo(rewriter, name, first, second, html, number)`: works on the token whose handler runs.
fn html_do<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let name = args.string(cx, 1)?;
    let (first, second) = (cx.text(args.get(2)), cx.text(args.get(3)));
    let number = args.get(5).as_f64().unwrap_or_default() as u32;
    let command = Command { name, first, second, html: args.flag(4), number };
    let reply = cx.with_handle::<Rewriter, _>(args.get(0), |rewriter| {
        rewriter.fiber.as_mut().and_then(|fiber| fiber.resume(In::Do(command)))
    });
    match reply.flatten() {
        Some(Out::Reply(Reply::None)) => Ok(cx.undefined()),
        Some(Out::Reply(Reply::Text(text))) => Ok(text.map_or_else(|| cx.null(), |text| cx.string(&text))),
        Some(Out::Reply(Reply::Flag(flag))) => Ok(cx.boolean(flag)),
        Some(Out::Reply(Reply::List(list))) => {
            let items: Vec<Value<'s>> = list.iter().map(|text| cx.string(text)).collect();
            Ok(cx.array(&items))
        }
        Some(Out::Reply(Reply::Bad(message))) => Err(OpError::type_error(message)),
        _ => Err(OpError::type_error(GONE)),
    }
}

/// `htmlOutput(rewriter)`: what it has written since the last call; `null` for nothing.
fn html_output<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    let bytes =
        cx.with_handle::<Rewriter, _>(args.get(0), |rewriter| std::mem::take(&mut *rewriter.output.borrow_mut()));
    match bytes {
        Some(bytes) if !bytes.is_empty() => cx.uint8_array(bytes).ok_or_else(OpError::out_of_memory),
        _ => Ok(cx.null()),
    }
}

/// `htmlDrop(rewriter)`: it is not wanted any more.
fn html_drop<'s>(cx: &mut Scope<'s, '_>, args: &Args<'s>) -> OpResult<'s> {
    cx.with_handle::<Rewriter, _>(args.get(0), |rewriter| {
        if let Some(mut fiber) = rewriter.fiber.take() {
            // A token's handler ends with an error, and all else with that.
            while fiber.resume(In::Stop).is_some() {}
        }
        rewriter.output.take();
        rewriter.charge.clear();
        rewriter.charged = 0;
    });
    Ok(cx.undefined())
}
