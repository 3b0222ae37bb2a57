//! What a supervisor of services hears (`sd_notify(3)`): that the node serves, and, after an upgrade, that another process is it now.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says that this process serves, if anybody listens.
pub(crate) fn serving() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = tell(path.as_bytes(), &format!("MAINPID={}\nREADY=1\n", std::process::id())) {
        tracing::warn!(%error, "the supervisor does not hear that this node serves");
    }
}

fn tell(path: &[u8], text: &str) -> io::Result<()> {
    let address = match path.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_at_a_file_and_at_a_name() {
        let name = format!("selvage-test-{}", std::process::id());
        let listener = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("bound");
        tell(format!("@{name}").as_bytes(), "READY=1").expect("sent");
        let mut text = [0; 16];
        let bytes = listener.recv(&mut text).expect("received");
        assert_eq!(&text[..bytes], b"READY=1");
        assert!(tell(b"/no/such/socket", "READY=1").is_err());
    }
}
