//! The fence, in processes of their own: it cannot be taken down again.

use std::{fs, io, process::Command};

/// Runs one test of this file again in a process of its own, with a variable set; gives its output.
fn alone(test: &str) -> std::process::Output {
    let this = std::env::current_exe().expect("this program");
    Command::new(this)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("PKEY_ALONE", "1")
        .output()
        .expect("runs")
}

fn is_alone() -> bool {
    std::env::var_os("PKEY_ALONE").is_some()
}

fn skip(what: &str) {
    use std::io::Write as _;
    eprintln!("SKIPPED: {what}");
    if let Some(log) = std::env::var_os("SELVAGE_SKIP_LOG")
        && let Ok(mut log) = fs::OpenOptions::new().append(true).create(true).open(log)
    {
        let _ = log.write_all(format!("SKIPPED: {what}\n").as_bytes());
    }
}

/// Reads a byte of our own memory by `process_vm_readv`.
fn read_past_keys() -> io::Result<u8> {
    let (from, mut to) = (42u8, 0u8);
    let here = libc::iovec { iov_base: (&raw mut to).cast(), iov_len: 1 };
    let there = libc::iovec { iov_base: (&raw const from).cast_mut().cast(), iov_len: 1 };
    // SAFETY: two vectors of one byte each, both alive.
    let read = unsafe { libc::process_vm_readv(libc::getpid(), &raw const here, 1, &raw const there, 1, 0) };
    if read == 1 { Ok(to) } else { Err(io::Error::last_os_error()) }
}

#[test]
fn ways_around_keys_are_closed_and_the_rest_stays_open() {
    if !is_alone() {
        assert_eq!(read_past_keys().expect("open without the fence"), 42);
        fs::OpenOptions::new().write(true).open("/proc/self/mem").expect("open without the fence");
        let output = alone("ways_around_keys_are_closed_and_the_rest_stays_open");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        if text.contains("no Landlock") {
            skip("fence: /proc/self/mem: this kernel has no Landlock");
        }
        return;
    }
    // Already there when calls are denied; files are closed to those that come after.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let files = pkey::fence::close_files();
    let before = std::thread::spawn(move || {
        let _gone = wait.recv();
        assert_eq!(read_past_keys().expect_err("process_vm_readv").raw_os_error(), Some(libc::EPERM));
    });
    pkey::fence::deny_calls().expect("seccomp");
    drop(go);
    before.join().expect("a thread started before");
    std::thread::spawn(move || {
        assert_eq!(read_past_keys().expect_err("process_vm_readv").raw_os_error(), Some(libc::EPERM));
        // SAFETY: a call with numbers only.
        let key = unsafe { libc::syscall(libc::SYS_pkey_alloc, 0, 0) };
        assert_eq!((key, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EPERM)));
        match files {
            Ok(()) => files_are_closed(),
            Err(error) => eprintln!("no Landlock: {error}"),
        }
    })
    .join()
    .expect("a thread started after");
}

fn files_are_closed() {
    let write = fs::OpenOptions::new().write(true).open("/proc/self/mem").expect_err("writing");
    assert_eq!(write.raw_os_error(), Some(libc::EACCES));
    assert_eq!(fs::File::open("/proc/self/mem").expect_err("reading").raw_os_error(), Some(libc::EACCES));
    // SAFETY: a call without arguments.
    let thread = format!("/proc/self/task/{}/mem", unsafe { libc::syscall(libc::SYS_gettid) });
    assert_eq!(fs::File::open(thread).expect_err("by thread").raw_os_error(), Some(libc::EACCES));
    assert!(fs::read_to_string("/proc/self/environ").is_err(), "the environment may hold secrets");
    assert!(fs::read_to_string("/proc/self/statm").expect("statm").contains(' '));
    assert!(fs::read_to_string("/proc/meminfo").expect("meminfo").contains("MemTotal"));
    assert!(!pkey::maps::areas(0..usize::MAX >> 1).expect("the map, opened before").is_empty());
    let file = tempfile();
    fs::write(&file, "there").expect("files stay open to write");
    assert_eq!(fs::read_to_string(&file).expect("and to read"), "there");
    fs::remove_file(&file).expect("removed");
}

fn tempfile() -> std::path::PathBuf {
    std::env::temp_dir().join(format!("selvage-fence-{}", std::process::id()))
}
