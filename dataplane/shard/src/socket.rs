//! The sockets of a shard behind a trait of our own, so that another way to the kernel can take the place of glommio's.

use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use std::io;
use std::mem::size_of;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};

/// One connected byte stream, used by one task.
pub(crate) trait Socket {
    /// Takes what has come, at most `buf.len()` bytes; 0 when the peer has shut down its side.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Sends as much of `buf` as there is room for, at least a byte.
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;

    /// Sends what the stream itself holds back; a plain socket holds nothing back.
    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Whom it is connected to, if that is known.
    fn peer(&self) -> Option<IpAddr> {
        None
    }

    /// Says that nothing more will be sent.
    fn shutdown_write(&mut self);

    /// Makes the coming close a reset: the peer must not take what it got for a complete message.
    fn reset_on_close(&mut self);
}

impl Socket for TcpStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        AsyncRead::poll_read(Pin::new(self), cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(self), cx, buf)
    }

    fn peer(&self) -> Option<IpAddr> {
        self.peer_addr().ok().map(|address| address.ip())
    }

    fn shutdown_write(&mut self) {
        // SAFETY: the descriptor is open as long as the stream lives; an error means that the peer has gone already.
        unsafe { libc::shutdown(self.as_raw_fd(), libc::SHUT_WR) };
    }

    fn reset_on_close(&mut self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: the descriptor is open as long as the stream lives, and `linger` is read during the call only.
        unsafe {
            libc::setsockopt(
                self.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of::<libc::linger>() as libc::socklen_t,
            );
        }
    }
}
