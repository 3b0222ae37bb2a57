//! What a node, its keeper and its successor say to each other over their sockets: frames of JSON, and descriptors beside a byte.
//!
//! *Bounds:* [`FRAME_BYTES_MAX`], [`SOCKETS_MAX`]. Blocks; called on threads that do nothing else.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Bytes of a frame: 100,000 prefixes as JSON are about 10 MB.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Descriptors in one message (`SCM_MAX_FD` is 253).
pub(crate) const SOCKETS_MAX: usize = 240;

/// Sends a frame: its length, then JSON.
pub(crate) fn send(mut stream: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let mut frame = (text.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(&text);
    stream.write_all(&frame)
}

/// Reads a frame. An error also for the end.
pub(crate) fn receive<T: DeserializeOwned>(mut stream: &UnixStream) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame that is too long"));
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// One byte with all descriptors beside it.
pub(crate) fn send_sockets(stream: &UnixStream, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if sockets.len() > SOCKETS_MAX || !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("more listening sockets than one message takes"));
    }
    sendmsg(stream, &[IoSlice::new(b"S")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The byte with the sockets beside it.
pub(crate) fn receive_sockets(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let sockets = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets.collect::<Vec<_>>()),
        _ => None,
    });
    Ok(sockets.flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    #[test]
    fn sockets_and_frames_arrive_in_order() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        send_sockets(&here, &[listener.as_fd(), listener.as_fd()]).expect("sent");
        send(&here, &vec!["a", "b"]).expect("sent");
        drop(here);
        let sockets: Vec<TcpListener> =
            receive_sockets(&there).expect("received").into_iter().map(TcpListener::from).collect();
        let address = listener.local_addr().expect("bound");
        assert!(sockets.len() == 2 && sockets.iter().all(|it| it.local_addr().is_ok_and(|it| it == address)));
        assert_eq!(receive::<Vec<String>>(&there).expect("received"), ["a", "b"]);
        assert!(receive::<Vec<String>>(&there).is_err(), "the end");
    }

    #[test]
    fn a_frame_that_claims_too_much_takes_no_memory() {
        let (mut here, there) = UnixStream::pair().expect("a pair");
        here.write_all(&u32::MAX.to_le_bytes()).expect("sent");
        assert_eq!(receive::<String>(&there).expect_err("refused").kind(), io::ErrorKind::InvalidData);
    }
}
