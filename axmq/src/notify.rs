//! Telling a service manager how the program is: the protocol of `sd_notify(3)`.
//!
//! A datagram to the socket that `$NOTIFY_SOCKET` names, with lines of `KEY=value`. Without that
//! variable nobody wants to know, and nothing is sent.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The service manager that started this process.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Manager {
    /// The one that `notify_socket`, usually `$NOTIFY_SOCKET`, names; `None` where there is none.
    ///
    /// # Errors
    ///
    /// What the system says, and for a path that is too long.
    pub fn new(notify_socket: Option<OsString>) -> io::Result<Option<Self>> {
        let Some(name) = notify_socket.filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        Ok(Some(Self { socket, address }))
    }

    /// Start-up is over.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn ready(&self) -> io::Result<()> {
        self.send("READY=1")
    }

    /// The configuration is being read anew; [`ready`](Self::ready) ends that.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn reloading(&self) -> io::Result<()> {
        let now = clock_gettime(ClockId::Monotonic);
        let now_us = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}"))
    }

    /// The program is about to end.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn stopping(&self) -> io::Result<()> {
        self.send("STOPPING=1")
    }

    /// The program is alive.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn alive(&self) -> io::Result<()> {
        self.send("WATCHDOG=1")
    }

    fn send(&self, lines: &str) -> io::Result<()> {
        self.socket
            .send_to_addr(lines.as_bytes(), &self.address)
            .map(drop)
    }
}

/// How often the service manager wants to hear that this process is alive, at the latest:
/// `$WATCHDOG_USEC`, where `$WATCHDOG_PID` is this process or not set.
#[must_use]
pub fn watchdog(usec: Option<OsString>, pid: Option<OsString>) -> Option<Duration> {
    let number = |text: OsString| text.to_str()?.parse::<u64>().ok();
    let is_meant = pid.is_none_or(|pid| number(pid) == Some(std::process::id().into()));
    let usec = number(usec?).filter(|usec| *usec > 0 && is_meant)?;
    Some(Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_gets_what_the_protocol_says() {
        let name = format!("axmq-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("short");
        let socket = UnixDatagram::bind_addr(&address).expect("nobody else has it");
        let manager = Manager::new(Some(format!("@{name}").into()))
            .expect("a good name")
            .expect("there is one");
        manager.ready().expect("it listens");
        manager.reloading().expect("it listens");
        manager.alive().expect("it listens");
        manager.stopping().expect("it listens");
        let next = || {
            let mut bytes = [0; 100];
            let len = socket.recv(&mut bytes).expect("it was sent");
            String::from_utf8_lossy(&bytes[..len]).into_owned()
        };
        assert_eq!(next(), "READY=1");
        let reloading = next();
        let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        assert!(
            usec.is_some_and(|usec| usec.parse::<u64>().is_ok()),
            "{reloading}"
        );
        assert_eq!(
            (next().as_str(), next().as_str()),
            ("WATCHDOG=1", "STOPPING=1")
        );
    }

    #[test]
    fn without_a_manager_nothing_is_wanted() {
        assert!(Manager::new(None).expect("nothing to fail").is_none());
        assert!(
            Manager::new(Some("".into()))
                .expect("nothing to fail")
                .is_none()
        );
        assert!(Manager::new(Some("x".repeat(200).into())).is_err());
        let us = || Some(OsString::from(std::process::id().to_string()));
        assert_eq!(watchdog(None, us()), None);
        assert_eq!(watchdog(Some("0".into()), us()), None);
        assert_eq!(watchdog(Some("2000000".into()), Some("1".into())), None);
        let two = Some(Duration::from_secs(2));
        assert_eq!(watchdog(Some("2000000".into()), us()), two);
        assert_eq!(watchdog(Some("2000000".into()), None), two);
    }
}
