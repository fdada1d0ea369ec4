//! A connected byte stream.

#![forbid(unsafe_code)]

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags,
        SocketType, sockopt,
    },
};

use crate::addr::PeerAddr;

/// The most slices that one system call takes (`UIO_MAXIOV`).
const SLICES_MAX: usize = 1024;

/// When the kernel probes a silent connection and gives it up.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct KeepAlive {
    /// Silence before the first probe, in seconds, 1 to 32,767.
    pub idle_s: u32,
    /// Time between probes, in seconds, 1 to 32,767.
    pub interval_s: u32,
    /// Probes without an answer before the connection is reset, 1 to 127.
    pub probes: u32,
}

impl KeepAlive {
    pub(super) fn apply(self, fd: BorrowedFd<'_>) -> io::Result<()> {
        sockopt::set_tcp_keepidle(fd, Duration::from_secs(self.idle_s.into()))?;
        sockopt::set_tcp_keepintvl(fd, Duration::from_secs(self.interval_s.into()))?;
        sockopt::set_tcp_keepcnt(fd, self.probes)?;
        Ok(sockopt::set_socket_keepalive(fd, true)?)
    }
}

/// A connected, nonblocking stream socket, closed on drop.
///
/// One descriptor and nothing else. Closing runs on the dropping thread and can take the kernel
/// some microseconds; a loop with many to close drops them in its background slice.
#[derive(Debug)]
pub struct Stream {
    fd: OwnedFd,
}

impl Stream {
    /// Starts to connect. The stream becomes writable when the connection stands or has failed;
    /// [`take_error`](Self::take_error) tells which.
    ///
    /// # Errors
    ///
    /// Those of `socket(2)` and `connect(2)` that come at once.
    pub fn connect(addr: &SocketAddr) -> io::Result<Self> {
        let family = if addr.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&fd, addr) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(Self { fd }),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads what is there, at most `buf.len()` bytes; 0 is the end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is nothing; `ConnectionReset` and the like.
    pub fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let (count, _) = rustix::net::recv(&self.fd, buf, RecvFlags::empty())?;
        Ok(count)
    }

    /// Writes from the slices in order, at most 1,024 of them, and answers how many bytes were
    /// taken. Never raises `SIGPIPE`.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the send buffer is full; `BrokenPipe` and `ConnectionReset` when there is
    /// nobody to send to.
    pub fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if let [buf] = bufs {
            return Ok(rustix::net::send(&self.fd, buf, SendFlags::NOSIGNAL)?);
        }
        let bufs = bufs.get(..SLICES_MAX).unwrap_or(bufs);
        let mut ancillary = SendAncillaryBuffer::default();
        Ok(rustix::net::sendmsg(
            &self.fd,
            bufs,
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?)
    }

    /// Says that nothing more will be sent: the peer reads the rest and then the end.
    ///
    /// # Errors
    ///
    /// `NotConnected` when the peer has reset the connection.
    pub fn shutdown_write(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.fd, Shutdown::Write)?)
    }

    /// Sends small segments at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// For sockets that are not TCP.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        Ok(sockopt::set_tcp_nodelay(&self.fd, on)?)
    }

    /// How long sent bytes may stay unacknowledged before the connection is reset, in milliseconds;
    /// 0 for the system's rule (`TCP_USER_TIMEOUT`).
    ///
    /// # Errors
    ///
    /// For sockets that are not TCP, and above 2^31 - 1 ms.
    pub fn set_user_timeout(&self, timeout_ms: u32) -> io::Result<()> {
        Ok(sockopt::set_tcp_user_timeout(&self.fd, timeout_ms)?)
    }

    /// Turns keep-alive probes on, or off with `None`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a value outside the ranges of [`KeepAlive`]; sockets that are not TCP.
    pub fn set_keepalive(&self, keepalive: Option<KeepAlive>) -> io::Result<()> {
        match keepalive {
            Some(keepalive) => keepalive.apply(self.fd.as_fd()),
            None => Ok(sockopt::set_socket_keepalive(&self.fd, false)?),
        }
    }

    /// Wishes for a send buffer of `bytes`; the kernel doubles it and cuts it to
    /// `net.core.wmem_max`. It then no longer grows by itself.
    ///
    /// # Errors
    ///
    /// None on an open socket.
    pub fn set_send_buffer(&self, bytes: usize) -> io::Result<()> {
        Ok(sockopt::set_socket_send_buffer_size(&self.fd, bytes)?)
    }

    /// Wishes for a receive buffer of `bytes`, as [`set_send_buffer`](Self::set_send_buffer).
    ///
    /// # Errors
    ///
    /// None on an open socket.
    pub fn set_recv_buffer(&self, bytes: usize) -> io::Result<()> {
        Ok(sockopt::set_socket_recv_buffer_size(&self.fd, bytes)?)
    }

    /// The address at the other end.
    ///
    /// # Errors
    ///
    /// `NotConnected` when the peer has reset the connection.
    pub fn peer_addr(&self) -> io::Result<PeerAddr> {
        let addr = rustix::net::getpeername(&self.fd)?;
        Ok(super::listener::peer_addr(addr))
    }

    /// The address at this end.
    ///
    /// # Errors
    ///
    /// None on an open socket.
    pub fn local_addr(&self) -> io::Result<PeerAddr> {
        let addr = rustix::net::getsockname(&self.fd)?;
        Ok(super::listener::peer_addr(Some(addr)))
    }

    /// The error that waits on the socket, which this takes away (`SO_ERROR`).
    ///
    /// # Errors
    ///
    /// None on an open socket: the error that was waiting is the `Ok` value.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(sockopt::socket_error(&self.fd)?.err().map(Into::into))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Stream {
    /// Takes over a connected stream socket. It must be nonblocking, or the loop will block.
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl From<Stream> for OwnedFd {
    fn from(stream: Stream) -> Self {
        stream.fd
    }
}

impl From<std::net::TcpStream> for Stream {
    /// Takes over a stream. It must be nonblocking, or the loop will block.
    fn from(stream: std::net::TcpStream) -> Self {
        Self { fd: stream.into() }
    }
}
