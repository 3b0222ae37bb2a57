//! An intruder in another process, for tests: makes its threads do what somebody who has taken one over would do.
//!
//! `intrude calls PID` has every thread try the ways around protection keys, and says what each call gave.
//! `intrude read PID THREAD LEAST` waits until the thread runs where memory of a tenant is open to it that has an area of so many
//! pages (an isolate that is being made, and is nobody's yet, has none as large), then has it read and write a byte of every page
//! that carries a key, of code one page in [`tracer::CODE_STEP`], and says for each key how that went, and how many pages its
//! largest area has. `intrude die PID THREAD LEAST` has it read another tenant's memory without anybody who catches it. Works by
//! `ptrace`: the process's own fence does not bind its parent. Output: one line of `name=value` words for each thread or key.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<i32>().ok());
    let least = words.get(3).and_then(|word| word.parse::<usize>().ok());
    let done = match (words.first().map(String::as_str), number(1), number(2), least) {
        (Some("calls"), Some(process), None, None) => tracer::calls(process),
        (Some("read"), Some(process), Some(thread), Some(least)) => tracer::read(process, thread, least),
        (Some("die"), Some(process), Some(thread), Some(least)) => tracer::die(process, thread, least),
        _ => Err(std::io::Error::other("usage: intrude calls PID | read PID THREAD LEAST | die PID THREAD LEAST")),
    };
    if let Err(error) = done {
        eprintln!("intrude: {error}");
        std::process::exit(1);
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn main() {
    eprintln!("intrude: written for x86-64");
    std::process::exit(1);
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tracer {
    use std::{
        collections::BTreeMap,
        fs, io,
        ops::Range,
        time::{Duration, Instant},
    };

    use libc::{c_long, c_void, user_regs_struct};

    const PAGE: usize = 4096;
    /// Of V8's code, gigabytes that are reserved, every so many pages are tried.
    pub(super) const CODE_STEP: usize = 64;
    /// How long to look for a moment in a tenant's turn.
    const PATIENCE: Duration = Duration::from_secs(120);
    /// `mov al, [rdi]`, `mov [rdi], al`, `syscall`, each filled up with `nop`.
    const LOAD: u64 = 0x9090_9090_9090_078a;
    const STORE: u64 = 0x9090_9090_9090_0788;
    const SYSCALL: u64 = 0x9090_9090_9090_050f;
    const SEGV_PKUERR: i32 = 4;

    /// What an access did.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Access {
        Done,
        Key(u32),
        Fault,
    }

    /// A thread of the other process, stopped.
    struct Stopped {
        thread: i32,
        /// Registers as they were.
        before: user_regs_struct,
        /// The word at the instruction pointer as it was.
        code: u64,
    }

    fn last<T>(result: c_long, value: T) -> io::Result<T> {
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
    }

    fn ask(request: u32, thread: i32, address: usize, data: usize) -> io::Result<()> {
        // SAFETY: requests of `ptrace(2)` whose data are numbers or point to live values of the callers.
        last(unsafe { libc::ptrace(request, thread, address as *mut c_void, data as *mut c_void) }, ())
    }

    fn peek(thread: i32, address: usize) -> io::Result<u64> {
        let mut word = 0u64;
        // SAFETY: the system call itself, which writes the word to `word`.
        let done = unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_PEEKTEXT, thread, address, &raw mut word) };
        last(done, word)
    }

    fn poke(thread: i32, address: usize, word: u64) -> io::Result<()> {
        ask(libc::PTRACE_POKETEXT, thread, address, word as usize)
    }

    /// Waits until the thread stops; gives the signal it stopped with.
    fn wait(thread: i32) -> io::Result<i32> {
        let mut status = 0;
        // SAFETY: `status` lives.
        last(unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) }.into(), ())?;
        if libc::WIFSTOPPED(status) { Ok(libc::WSTOPSIG(status)) } else { Err(io::Error::other("the thread ended")) }
    }

    impl Stopped {
        fn stop(thread: i32) -> io::Result<Stopped> {
            ask(libc::PTRACE_SEIZE, thread, 0, 0)?;
            ask(libc::PTRACE_INTERRUPT, thread, 0, 0)?;
            wait(thread)?;
            // SAFETY: plain numbers.
            let mut before: user_regs_struct = unsafe { std::mem::zeroed() };
            ask(libc::PTRACE_GETREGS, thread, 0, &raw mut before as usize)?;
            let code = peek(thread, before.rip as usize)?;
            Ok(Stopped { thread, before, code })
        }

        /// Runs one instruction with these registers; gives the signal it stopped with, and the registers after.
        fn step(&self, code: u64, set: impl FnOnce(&mut user_regs_struct)) -> io::Result<(i32, user_regs_struct)> {
            poke(self.thread, self.before.rip as usize, code)?;
            let mut registers = self.before;
            // Not in a system call: nothing is to be begun again.
            registers.orig_rax = u64::MAX;
            set(&mut registers);
            ask(libc::PTRACE_SETREGS, self.thread, 0, &raw const registers as usize)?;
            ask(libc::PTRACE_SINGLESTEP, self.thread, 0, 0)?;
            let signal = wait(self.thread)?;
            ask(libc::PTRACE_GETREGS, self.thread, 0, &raw mut registers as usize)?;
            Ok((signal, registers))
        }

        fn call(&self, number: c_long, arguments: [usize; 6]) -> io::Result<i64> {
            let [a, b, c, d, e, f] = arguments.map(|it| it as u64);
            let (_, after) = self.step(SYSCALL, |registers| {
                registers.rax = number as u64;
                (registers.rdi, registers.rsi, registers.rdx) = (a, b, c);
                (registers.r10, registers.r8, registers.r9) = (d, e, f);
            })?;
            Ok(after.rax as i64)
        }

        /// Below the thread's stack and the red zone under it.
        fn scratch(&self) -> usize {
            (self.before.rsp as usize - 1024) & !15
        }

        fn write(&self, at: usize, bytes: &[u8]) -> io::Result<()> {
            for (at, word) in (at..).step_by(8).zip(bytes.chunks(8)) {
                let mut whole = [0; 8];
                whole[..word.len()].copy_from_slice(word);
                poke(self.thread, at, u64::from_le_bytes(whole))?;
            }
            Ok(())
        }

        fn access(&self, code: u64, address: usize) -> io::Result<Access> {
            let (signal, _) = self.step(code, |registers| registers.rdi = address as u64)?;
            if signal == libc::SIGTRAP {
                return Ok(Access::Done);
            }
            // SAFETY: plain numbers, filled in by the next line.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            ask(libc::PTRACE_GETSIGINFO, self.thread, 0, &raw mut info as usize)?;
            if signal != libc::SIGSEGV || info.si_code != SEGV_PKUERR {
                return Ok(Access::Fault);
            }
            // SAFETY: `si_pkey` of a structure of 128 bytes.
            Ok(Access::Key(unsafe { (&raw const info).cast::<u32>().add(8).read() }))
        }

        fn restore(&self) -> io::Result<()> {
            poke(self.thread, self.before.rip as usize, self.code)?;
            ask(libc::PTRACE_SETREGS, self.thread, 0, &raw const self.before as usize)
        }

        fn go(&self) -> io::Result<()> {
            ask(libc::PTRACE_DETACH, self.thread, 0, 0)
        }
    }

    /// All threads of the process, stopped: they share the code that is changed for one of them.
    struct All(Vec<Stopped>);

    impl All {
        fn stop(process: i32) -> io::Result<All> {
            let mut all = All(Vec::new());
            // A thread may have started another one before it was stopped.
            loop {
                let before = all.0.len();
                for entry in fs::read_dir(format!("/proc/{process}/task"))? {
                    let name = entry?.file_name();
                    let Some(thread) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
                    // Workers of io_uring are the kernel's, and run nothing of the process's.
                    let known =
                        all.0.iter().any(|it| it.thread == thread) || name_of(process, thread).starts_with("iou-");
                    if known {
                        continue;
                    }
                    match Stopped::stop(thread) {
                        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                        stopped => all.0.push(stopped?),
                    }
                }
                if all.0.len() == before {
                    return Ok(all);
                }
            }
        }

        fn thread(&self, thread: i32) -> io::Result<&Stopped> {
            let found = self.0.iter().find(|it| it.thread == thread);
            found.ok_or_else(|| io::Error::other("the process has no such thread"))
        }

        fn go(self) -> io::Result<()> {
            self.0.iter().try_for_each(Stopped::go)
        }
    }

    fn name_of(process: i32, thread: i32) -> String {
        let name = fs::read_to_string(format!("/proc/{process}/task/{thread}/comm")).unwrap_or_default();
        name.trim().replace(' ', "_")
    }

    pub(super) fn calls(process: i32) -> io::Result<()> {
        let all = All::stop(process)?;
        for it in &all.0 {
            let results = attempts(it, process);
            it.restore()?;
            let words: Vec<String> = results?.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            println!("thread={} {}", name_of(process, it.thread), words.join(" "));
        }
        all.go()
    }

    /// Every way around keys, and a call that must work.
    fn attempts(it: &Stopped, process: i32) -> io::Result<Vec<(&'static str, i64)>> {
        let (at, here) = (it.scratch(), process as usize);
        let kept: Vec<u64> = (0..32).map(|word| peek(it.thread, at + word * 8)).collect::<io::Result<_>>()?;
        // Two vectors of eight bytes, then a path.
        let (vector, other, path) = (at, at + 16, at + 64);
        for (place, base) in [(vector, at + 32), (other, at + 40)] {
            it.write(place, &(base as u64).to_le_bytes())?;
            it.write(place + 8, &8u64.to_le_bytes())?;
        }
        let mut results = vec![
            ("getpid", i64::from(it.call(libc::SYS_getpid, [0; 6])? == i64::from(process))),
            ("process_vm_readv", it.call(libc::SYS_process_vm_readv, [here, vector, 1, other, 1, 0])?),
            ("process_vm_writev", it.call(libc::SYS_process_vm_writev, [here, vector, 1, other, 1, 0])?),
            ("ptrace", it.call(libc::SYS_ptrace, [libc::PTRACE_SEIZE as usize, here, 0, 0, 0, 0])?),
            ("pidfd_getfd", it.call(libc::SYS_pidfd_getfd, [0; 6])?),
            ("pkey_alloc", it.call(libc::SYS_pkey_alloc, [0; 6])?),
            ("pkey_free", it.call(libc::SYS_pkey_free, [15, 0, 0, 0, 0, 0])?),
            ("userfaultfd", it.call(libc::SYS_userfaultfd, [0; 6])?),
        ];
        let files = [
            ("self_mem", "/proc/self/mem\0".to_owned()),
            ("thread_mem", "/proc/thread-self/mem\0".to_owned()),
            ("number_mem", format!("/proc/{process}/mem\0")),
            ("task_mem", format!("/proc/self/task/{}/mem\0", it.thread)),
            ("environ", "/proc/self/environ\0".to_owned()),
            ("statm", "/proc/self/statm\0".to_owned()),
        ];
        for (name, file) in files {
            it.write(path, file.as_bytes())?;
            for (way, flags) in [("", libc::O_RDONLY), ("_write", libc::O_RDWR)] {
                if name == "statm" && !way.is_empty() {
                    continue;
                }
                let opened = it.call(libc::SYS_openat, [libc::AT_FDCWD as usize, path, flags as usize, 0, 0, 0])?;
                if opened >= 0 {
                    it.call(libc::SYS_close, [opened as usize, 0, 0, 0, 0, 0])?;
                }
                let name: &'static str = format!("{name}{way}").leak();
                results.push((name, opened.min(0)));
            }
        }
        for (word, value) in kept.into_iter().enumerate() {
            poke(it.thread, at + word * 8, value)?;
        }
        Ok(results)
    }

    /// Areas of the process that carry a key and can be read, by key; and the keys that areas of code carry.
    struct Keyed {
        areas: BTreeMap<u8, Vec<(Range<usize>, bool)>>,
        code: Vec<u8>,
    }

    fn keyed(process: i32) -> io::Result<Keyed> {
        let mut found = Keyed { areas: BTreeMap::new(), code: Vec::new() };
        let mut area = None;
        for line in fs::read_to_string(format!("/proc/{process}/smaps"))?.lines() {
            let mut words = line.split_ascii_whitespace();
            let first = words.next().unwrap_or_default();
            let range = first.split_once('-').and_then(|(start, end)| {
                Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
            });
            if let Some(range) = range {
                area = Some((range, words.next().unwrap_or_default().to_owned()));
            } else if first == "ProtectionKey:"
                && let (Some((range, letters)), Some(key)) =
                    (area.take(), words.next().and_then(|key| key.parse().ok()))
                && key != 0
                && letters.starts_with('r')
            {
                if letters.contains('x') && !found.code.contains(&key) {
                    found.code.push(key);
                }
                let writable = letters.starts_with("rw");
                found.areas.entry(key).or_default().push((range, writable));
            }
        }
        Ok(found)
    }

    /// Pages of the largest area.
    fn largest(areas: &[(Range<usize>, bool)]) -> usize {
        areas.iter().map(|(range, _)| range.len() / PAGE).max().unwrap_or(0)
    }

    /// Whether V8 is compiling: it opens its code for writing then, to the thread that does.
    fn compiles(it: &Stopped, keyed: &Keyed) -> io::Result<bool> {
        for areas in keyed.code.iter().filter_map(|key| keyed.areas.get(key)) {
            let writable = areas.iter().filter(|(_, writable)| *writable).map(|(range, _)| range);
            // Its last page is not in use yet.
            if let Some(range) = writable.max_by_key(|range| range.len())
                && it.access(STORE, range.end - PAGE)? == Access::Done
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Stops the process while the thread is in a tenant's turn: while memory that carries a key, which is not code's, and has an area
    /// of `least` pages, is open to it, and no code is for writing. Gives that key.
    fn in_a_turn(process: i32, thread: i32, least: usize) -> io::Result<(All, Keyed, u8)> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let all = All::stop(process)?;
            let it = all.thread(thread)?;
            let keyed = keyed(process)?;
            let mut open = None;
            for (key, areas) in keyed.areas.iter().filter(|(key, _)| !keyed.code.contains(key)) {
                if largest(areas) >= least && it.access(LOAD, areas[0].0.start)? == Access::Done {
                    open = Some(*key);
                }
            }
            let compiles = open.is_some() && compiles(it, &keyed)?;
            it.restore()?;
            match open {
                Some(key) if !compiles => return Ok((all, keyed, key)),
                _ => all.go()?,
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        Err(io::Error::other("the thread was never found in a tenant's turn"))
    }

    pub(super) fn read(process: i32, thread: i32, least: usize) -> io::Result<()> {
        let (all, keyed, own) = in_a_turn(process, thread, least)?;
        let it = all.thread(thread)?;
        for (key, areas) in &keyed.areas {
            let (largest, code) = (largest(areas), keyed.code.contains(key));
            let step = if code { CODE_STEP } else { 1 };
            let (mut pages, mut done, mut faults, mut wrong, mut stored, mut store_faults) = (0, 0, 0, 0, 0, 0);
            for (range, writable) in areas {
                for page in range.clone().step_by(step * PAGE) {
                    pages += 1;
                    match it.access(LOAD, page)? {
                        Access::Done => done += 1,
                        Access::Key(found) if found == u32::from(*key) => faults += 1,
                        _ => wrong += 1,
                    }
                    if *key == own || !writable {
                        continue;
                    }
                    match it.access(STORE, page)? {
                        Access::Done => stored += 1,
                        Access::Key(_) => store_faults += 1,
                        Access::Fault => wrong += 1,
                    }
                }
            }
            let (own, code) = (u8::from(*key == own), u8::from(code));
            println!(
                "key={key} own={own} code={code} pages={pages} largest={largest} read={done} faults={faults} \
                 written={stored} write_faults={store_faults} wrong={wrong}"
            );
        }
        it.restore()?;
        all.go()
    }

    pub(super) fn die(process: i32, thread: i32, least: usize) -> io::Result<()> {
        let (all, keyed, own) = in_a_turn(process, thread, least)?;
        let it = all.thread(thread)?;
        let others = keyed.areas.iter().filter(|(key, _)| **key != own && !keyed.code.contains(key));
        let mut target = None;
        for (key, areas) in others {
            // Not the first byte of an area, so that the address in the report is one that nobody could guess.
            let address = areas[0].0.start + 8;
            if it.access(LOAD, address)? == Access::Key(u32::from(*key)) {
                target = Some((*key, address));
            }
        }
        let (key, address) = target.ok_or_else(|| io::Error::other("no other tenant's memory is there"))?;
        poke(thread, it.before.rip as usize, LOAD)?;
        let mut registers = it.before;
        (registers.orig_rax, registers.rdi) = (u64::MAX, address as u64);
        ask(libc::PTRACE_SETREGS, thread, 0, &raw const registers as usize)?;
        println!("key={key} own={own} address={address:x}");
        // The thread first: the others must not run the changed code before it has died of it.
        it.go()?;
        std::thread::sleep(Duration::from_millis(500));
        all.0.iter().filter(|it| it.thread != thread).for_each(|it| drop(it.go()));
        Ok(())
    }
}
