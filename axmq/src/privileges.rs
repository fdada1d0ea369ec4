//! Becoming somebody with fewer rights, for a program that was started as root.
//!
//! The rights of a thread are its own on Linux, and the threads that it starts inherit them: this
//! has to happen while there is only one. What needs a right later keeps it as a capability
//! (capabilities(7)): `CAP_NET_BIND_SERVICE` where a listener has a port below 1024, and
//! `CAP_NET_ADMIN` where bans are set in the kernel. Usually that is none at all.

use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::Path;

use rustix::process::geteuid;
use rustix::thread::{
    CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use rustix::thread::{Gid, Uid};

use crate::config::{Config, KernelBans};

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";
/// Ports below need a right.
const FIRST_FREE_PORT: u16 = 1_024;

/// Why this process is not the user that it should be.
#[derive(Debug)]
#[non_exhaustive]
pub enum PrivilegesError {
    /// A file of users or groups cannot be read.
    Read {
        /// The file.
        file: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// There is no such user on this machine.
    Unknown {
        /// As it is configured.
        user: String,
    },
    /// This process is somebody else, and not root.
    NotRoot {
        /// As it is configured.
        user: String,
    },
    /// The data directory cannot be made for the user.
    DataDir {
        /// What the system says.
        source: io::Error,
    },
    /// The system refuses.
    System {
        /// What.
        step: &'static str,
        /// What it says.
        source: io::Error,
    },
}

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: u32,
    /// The groups that the user is a member of beside that one.
    groups: Vec<u32>,
}

/// Makes this process the user that `broker.user` names, if it names one, for good; whether it has.
/// A data directory that is not there yet is made for that user before.
///
/// To be called before any other thread is started.
///
/// # Errors
///
/// See [`PrivilegesError`]. Then the process must not go on: it may have lost some of its rights.
pub fn drop_to_user(config: &Config) -> Result<bool, PrivilegesError> {
    let Some(name) = &config.broker.user else {
        return Ok(false);
    };
    let read = |file| {
        std::fs::read_to_string(file).map_err(|source| PrivilegesError::Read { file, source })
    };
    let user = find(name, &read(USERS)?, &read(GROUPS)?);
    let user = user.ok_or_else(|| PrivilegesError::Unknown { user: name.clone() })?;
    if geteuid().as_raw() == user.uid {
        return Ok(false);
    }
    if !geteuid().is_root() {
        return Err(PrivilegesError::NotRoot { user: name.clone() });
    }
    if let Some(path) = &config.broker.data_dir {
        make_data_dir(path, &user).map_err(|source| PrivilegesError::DataDir { source })?;
    }
    user.become_it(kept(config))?;
    Ok(true)
}

/// What is needed later.
fn kept(config: &Config) -> CapabilitySet {
    let mut kept = CapabilitySet::empty();
    let has_right = |port| (1..FIRST_FREE_PORT).contains(&port);
    if config
        .listeners
        .iter()
        .any(|it| it.address.port().is_some_and(has_right))
    {
        kept |= CapabilitySet::NET_BIND_SERVICE;
    }
    if config.defence.kernel != KernelBans::Off {
        kept |= CapabilitySet::NET_ADMIN;
    }
    kept
}

/// Looks a user up by name, in the text of passwd(5) and group(5).
fn find(name: &str, users: &str, groups: &str) -> Option<User> {
    let mut lines = users.lines().map(|line| line.split(':'));
    let mut fields = lines.find_map(|mut line| (line.next() == Some(name)).then_some(line))?;
    let _password = fields.next()?;
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let group = |line: &str| {
        let mut fields = line.split(':').skip(2);
        let id: u32 = fields.next()?.parse().ok()?;
        let mut members = fields.next()?.split(',');
        (id != gid && members.any(|member| member == name)).then_some(id)
    };
    Some(User {
        uid,
        gid,
        groups: groups.lines().filter_map(group).collect(),
    })
}

/// Makes the directory for the user, where it is not there.
fn make_data_dir(path: &Path, user: &User) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    DirBuilder::new().mode(0o700).create(path)?;
    chown(path, Some(user.uid), Some(user.gid))
}

impl User {
    fn become_it(&self, kept: CapabilitySet) -> Result<(), PrivilegesError> {
        let step = |step, result: rustix::io::Result<()>| {
            result.map_err(|source| PrivilegesError::System {
                step,
                source: source.into(),
            })
        };
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let mut groups: Vec<_> = self.groups.iter().copied().map(Gid::from_raw).collect();
        groups.push(gid);
        step("set its groups", set_thread_groups(&groups))?;
        step("set its group", set_thread_res_gid(gid, gid, gid))?;
        let keeps = !kept.is_empty();
        step("keep capabilities", set_keep_capabilities(keeps))?;
        step("set its user", set_thread_res_uid(uid, uid, uid))?;
        let sets = CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: kept,
        };
        step("drop capabilities", set_capabilities(None, sets))?;
        for capability in kept {
            // For the helper that sets bans.
            let ambient = configure_capability_in_ambient_set(capability, true);
            step("hand capabilities on", ambient)?;
        }
        step("rule out new rights", set_no_new_privs(true))
    }
}

impl fmt::Display for PrivilegesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { file, source } => write!(f, "cannot read {file}: {source}"),
            Self::Unknown { user } => write!(
                f,
                "there is no user {user:?} on this machine (broker.user); add it with \
                 useradd --system"
            ),
            Self::NotRoot { user } => write!(
                f,
                "only root can become {user:?} (broker.user); start as root or as that user"
            ),
            Self::DataDir { source } => {
                write!(
                    f,
                    "cannot make the data directory for broker.user: {source}"
                )
            }
            Self::System { step, source } => {
                write!(
                    f,
                    "cannot become broker.user: the system does not {step}: {source}"
                )
            }
        }
    }
}

impl std::error::Error for PrivilegesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } | Self::DataDir { source } | Self::System { source, .. } => {
                Some(source)
            }
            Self::Unknown { .. } | Self::NotRoot { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listener;

    #[test]
    fn a_user_is_found_with_all_its_groups() {
        let users = "root:x:0:0:root:/root:/bin/sh\naxmq:x:120:130::/:\nbroken:x:-1:\n";
        let groups = "axmq:x:130:axmq\ntls:x:7:ann,axmq\nother:x:8:axmq2\nbad:x:9\n";
        let expected = User {
            uid: 120,
            gid: 130,
            groups: vec![7],
        };
        assert_eq!(find("axmq", users, groups), Some(expected));
        for nobody in ["", "axm", "broken", "x", "120"] {
            assert_eq!(find(nobody, users, groups), None, "{nobody}");
        }
    }

    #[test]
    fn only_what_is_needed_is_kept() {
        let mut config = Config::default();
        assert_eq!(kept(&config), CapabilitySet::empty());
        config
            .listeners
            .push(Listener::new(std::net::SocketAddr::from(([0, 0, 0, 0], 0))));
        assert_eq!(kept(&config), CapabilitySet::empty());
        config
            .listeners
            .push(Listener::new(std::net::SocketAddr::from((
                [0, 0, 0, 0],
                443,
            ))));
        assert_eq!(kept(&config), CapabilitySet::NET_BIND_SERVICE);
        config.defence.kernel = KernelBans::Nft;
        let both = CapabilitySet::NET_BIND_SERVICE | CapabilitySet::NET_ADMIN;
        assert_eq!(kept(&config), both);
    }
}
