//! Listening sockets.

#![forbid(unsafe_code)]

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::stream::{KeepAlive, Stream};
use crate::{addr::PeerAddr, sys};

/// How to listen, and what the accepted streams inherit.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Let several listeners of this user share the address (`SO_REUSEPORT`). Default: no.
    pub reuse_port: bool,
    /// Register the listener with `EPOLLEXCLUSIVE`, for one that several loops share. Default: no.
    pub exclusive: bool,
    /// Connections that the kernel keeps ready to be accepted, cut to `net.core.somaxconn`; beyond
    /// it, new ones are made to try again. Default: 4,096.
    pub backlog: u32,
    /// Keep an IPv6 listener from taking IPv4 connections as well. Default: yes, whatever the
    /// system's setting.
    pub v6_only: bool,
    /// Bind to an address that the machine does not have yet (`IP_FREEBIND`). Default: no.
    pub freebind: bool,
    /// Report a connection only when it has sent its first bytes, or after about this many seconds
    /// (`TCP_DEFER_ACCEPT`). Default: at once.
    pub defer_accept_s: Option<u32>,
    /// Prefer connections whose packets arrive on this processor (`SO_INCOMING_CPU`), among
    /// listeners with `reuse_port`. Default: none.
    pub incoming_cpu: Option<u32>,
    /// Inherited: send small segments at once. Default: yes.
    pub nodelay: bool,
    /// Inherited: keep-alive probes. Default: none.
    pub keepalive: Option<KeepAlive>,
    /// Inherited: see [`Stream::set_user_timeout`]. Default: the system's rule.
    pub user_timeout_ms: Option<u32>,
    /// Inherited: see [`Stream::set_send_buffer`]. Default: the kernel adapts it.
    pub send_buffer_bytes: Option<usize>,
    /// Inherited: see [`Stream::set_recv_buffer`]. Set here, before listening, it also takes part
    /// in the choice of the window scale. Default: the kernel adapts it.
    pub recv_buffer_bytes: Option<usize>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            reuse_port: false,
            exclusive: false,
            backlog: 4096,
            v6_only: true,
            freebind: false,
            defer_accept_s: None,
            incoming_cpu: None,
            nodelay: true,
            keepalive: None,
            user_timeout_ms: None,
            send_buffer_bytes: None,
            recv_buffer_bytes: None,
        }
    }
}

/// A nonblocking listening socket, closed on drop.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    exclusive: bool,
}

impl Listener {
    /// Binds to an address and listens. Port 0 lets the system choose: see
    /// [`local_addr`](Self::local_addr).
    ///
    /// `SO_REUSEADDR` is always set, so that a server can start again at once.
    ///
    /// # Errors
    ///
    /// `AddrInUse`, `AddrNotAvailable`, `PermissionDenied` for a low port, and refusals of options.
    pub fn bind(addr: &SocketAddr, options: &ListenOptions) -> io::Result<Self> {
        let family = if addr.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let fd = socket(family)?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        if addr.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, options.v6_only)?;
        }
        if options.freebind {
            // The IPv4 option serves both families.
            sockopt::set_ip_freebind(&fd, true)?;
        }
        if options.reuse_port {
            sockopt::set_socket_reuseport(&fd, true)?;
        }
        if let Some(cpu) = options.incoming_cpu {
            sockopt::set_socket_incoming_cpu(&fd, cpu)?;
        }
        if let Some(seconds) = options.defer_accept_s {
            sys::set_tcp_defer_accept(fd.as_fd(), seconds)?;
        }
        if options.nodelay {
            sockopt::set_tcp_nodelay(&fd, true)?;
        }
        if let Some(keepalive) = options.keepalive {
            keepalive.apply(fd.as_fd())?;
        }
        if let Some(timeout_ms) = options.user_timeout_ms {
            sockopt::set_tcp_user_timeout(&fd, timeout_ms)?;
        }
        set_buffers(&fd, options)?;
        rustix::net::bind(&fd, addr)?;
        Self::listen(fd, options)
    }

    /// Binds to a path in the file system and listens. Of the options, `exclusive`, `backlog` and
    /// the buffer sizes apply.
    ///
    /// The file outlives the listener; whoever owns the path removes it.
    ///
    /// # Errors
    ///
    /// `AddrInUse` when the path exists, even if nobody listens there; a path of more than 107
    /// bytes.
    pub fn bind_unix(path: &Path, options: &ListenOptions) -> io::Result<Self> {
        let fd = socket(AddressFamily::UNIX)?;
        set_buffers(&fd, options)?;
        rustix::net::bind(&fd, &SocketAddrUnix::new(path)?)?;
        Self::listen(fd, options)
    }

    fn listen(fd: OwnedFd, options: &ListenOptions) -> io::Result<Self> {
        rustix::net::listen(&fd, i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        Ok(Self {
            fd,
            exclusive: options.exclusive,
        })
    }

    /// The address that the listener is bound to.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a unix listener.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = rustix::net::getsockname(&self.fd)?;
        Ok(SocketAddr::try_from(addr)?)
    }

    /// A second descriptor of the same listener, for another loop. See
    /// [`ListenOptions::exclusive`].
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
            exclusive: self.exclusive,
        })
    }

    /// The same for a loop among several that share it: see [`ListenOptions::exclusive`].
    #[must_use]
    pub fn shared(self) -> Self {
        Self {
            exclusive: true,
            ..self
        }
    }

    /// Whether it is to be registered with [`Mode::Exclusive`](crate::Mode::Exclusive).
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Accepts one connection (`accept4(2)`, nonblocking and close-on-exec).
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is none, and those of `accept4(2)`;
    /// [`accept_next`](super::accept_next) sorts them.
    pub fn accept(&self) -> io::Result<(Stream, PeerAddr)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (fd, addr) = rustix::net::acceptfrom_with(&self.fd, flags)?;
        Ok((Stream::from(fd), peer_addr(addr)))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Listener {
    /// Takes over a listening socket, such as one that a service manager passed on. It must be
    /// nonblocking, or the loop will block.
    fn from(fd: OwnedFd) -> Self {
        Self {
            fd,
            exclusive: false,
        }
    }
}

fn socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        family,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

fn set_buffers(fd: &OwnedFd, options: &ListenOptions) -> io::Result<()> {
    if let Some(bytes) = options.send_buffer_bytes {
        sockopt::set_socket_send_buffer_size(fd, bytes)?;
    }
    if let Some(bytes) = options.recv_buffer_bytes {
        sockopt::set_socket_recv_buffer_size(fd, bytes)?;
    }
    Ok(())
}

/// What is no internet address is a unix socket: nothing else is listened on here.
pub(super) fn peer_addr(addr: Option<SocketAddrAny>) -> PeerAddr {
    addr.and_then(|addr| SocketAddr::try_from(addr).ok())
        .map_or(PeerAddr::UNIX, PeerAddr::from)
}
