//! Putting the configuration together: defaults, then the file, then the environment, then the
//! command line.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use super::auth::ROLE;
use super::diagnose::{ConfigError, Diagnostic, Place, closest};
use super::keys::{self, Key, Kind, Value};
use super::store::RULE;
use super::{Address, Config, Listener, ListenerRules, LogLevel, Violation, toml_file};

/// Everything that a configuration is made from. Nothing else is looked at, but the file, the
/// resolver for listeners that are given by name, and the current folder for a relative path.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// The environment; usually [`std::env::vars_os`].
    pub environment: Vec<(OsString, OsString)>,
    /// What the command line says.
    pub command_line: CommandLine,
}

/// What the command line can say; see the broker's `--help`.
#[derive(Debug, Clone, Default)]
pub struct CommandLine {
    /// `--listen`; if there is one, it replaces all listeners from elsewhere.
    pub listen: Vec<Address>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--shards`.
    pub shards: Option<u32>,
    /// `--log`.
    pub log: Option<LogLevel>,
    /// `--allow-anonymous`.
    pub allow_anonymous: bool,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// From the file.
    File(Place),
    /// From this environment variable.
    Environment(String),
    /// From this option of the command line.
    CommandLine(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(place) => write!(f, "{}:{}", place.file, place.line),
            Self::Environment(name) => f.write_str(name),
            Self::CommandLine(option) => f.write_str(option),
        }
    }
}

/// A configuration and where each of its values comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// The origins of keys that are not at their defaults; at most one a key, and one for each
    /// role and rule of the store.
    origins: Vec<(&'static str, &'static str, Origin)>,
    /// The origins of `config.listeners`, one each.
    listener_origins: Vec<Origin>,
}

impl Loaded {
    /// Where the value of a key comes from.
    #[must_use]
    pub fn origin(&self, key: &Key) -> &Origin {
        self.find_origin(key.section, key.name)
            .unwrap_or(&Origin::Default)
    }

    /// Where the listener with this index comes from.
    #[must_use]
    pub fn listener_origin(&self, index: usize) -> &Origin {
        self.listener_origins.get(index).unwrap_or(&Origin::Default)
    }

    /// Where the element with this index of a list of tables comes from, such as of the roles.
    pub(super) fn element_origin(&self, list: &str, index: usize) -> &Origin {
        let mut elements = self.origins.iter().filter(|(_, name, _)| *name == list);
        elements
            .nth(index)
            .map_or(&Origin::Default, |(_, _, origin)| origin)
    }

    fn find_origin(&self, section: &str, name: &str) -> Option<&Origin> {
        let found = self
            .origins
            .iter()
            .find(|(s, n, _)| *s == section && *n == name);
        found.map(|(_, _, origin)| origin)
    }

    fn set(&mut self, key: &'static Key, value: Value, origin: Origin) {
        (key.write)(&mut self.config, value);
        self.origins
            .retain(|(section, name, _)| (*section, *name) != (key.section, key.name));
        self.origins.push((key.section, key.name, origin));
    }
}

/// A value of the file with its place.
#[derive(Debug)]
pub(super) struct Given<T> {
    /// The key; `None` for a listener.
    pub(super) key: Option<&'static Key>,
    pub(super) value: T,
    pub(super) place: Place,
}

/// Puts the configuration together and checks it.
///
/// # Errors
///
/// Everything that is wrong at once, except that a file that cannot be read, or is not TOML, is
/// looked at no further, and that values are compared with each other only if each is in order.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let Some(path) = &sources.file else {
        return Loader::new().finish(sources);
    };
    match toml_file::read(path) {
        Ok(text) => load_text(&path.display().to_string(), &text, sources),
        Err(diagnostic) => Err(ConfigError::of(*diagnostic)),
    }
}

/// As [`load`], with the text of the file given instead of read; `name` stands for it in messages.
///
/// # Errors
///
/// As for [`load`].
///
/// # Examples
///
/// ```
/// use axmq::config::{self, Sources};
///
/// let sources = Sources {
///     environment: vec![("HOME".into(), "/home/somebody".into())],
///     ..Sources::default()
/// };
/// let loaded = config::load_text("inline", "[limits]\ninflight = 10", &sources)?;
/// assert_eq!(loaded.config.limits.inflight, 10);
///
/// let error = config::load_text("inline", "[limits]\ninflite = 10", &sources).unwrap_err();
/// assert!(error.to_string().starts_with("inline:2:1: unknown key `inflite` in [limits]"));
/// # Ok::<(), config::ConfigError>(())
/// ```
pub fn load_text(name: &str, text: &str, sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut loader = Loader::new();
    loader.file(name, text);
    loader.finish(sources)
}

struct Loader {
    loaded: Loaded,
    /// Listeners to be looked up; `None` while nobody gave any.
    listeners: Option<Vec<(Address, ListenerRules, Origin)>>,
    diagnostics: Vec<Diagnostic>,
}

impl Loader {
    fn new() -> Self {
        let config = Config::default();
        let listener_origins = vec![Origin::Default; config.listeners.len()];
        Self {
            loaded: Loaded {
                config,
                origins: Vec::new(),
                listener_origins,
            },
            listeners: None,
            diagnostics: Vec::new(),
        }
    }

    /// Takes the sources after the file, and checks the whole.
    fn finish(mut self, sources: &Sources) -> Result<Loaded, ConfigError> {
        self.environment(&sources.environment);
        self.command_line(&sources.command_line);
        self.data_dir(&sources.environment);
        self.resolve();
        if self.diagnostics.is_empty() {
            self.check();
        }
        ConfigError::unless_empty(self.diagnostics)?;
        Ok(self.loaded)
    }

    fn file(&mut self, name: &str, text: &str) {
        let parsed = toml_file::parse(name, text);
        for Given { key, value, place } in parsed.values {
            if let Some(key) = key {
                self.loaded.set(key, value, Origin::File(place));
            }
        }
        for Given { value, place, .. } in parsed.roles {
            self.loaded.config.auth.roles.push(value);
            self.loaded
                .origins
                .push(("auth", ROLE, Origin::File(place)));
        }
        for Given { value, place, .. } in parsed.store_rules {
            self.loaded.config.store.rules.push(value);
            self.loaded
                .origins
                .push(("store", RULE, Origin::File(place)));
        }
        self.listeners = parsed.listeners.map(|listeners| {
            listeners
                .into_iter()
                .map(|given| {
                    let (address, rules) = given.value;
                    (address, rules, Origin::File(given.place))
                })
                .collect()
        });
        self.diagnostics.extend(parsed.diagnostics);
    }

    fn environment(&mut self, environment: &[(OsString, OsString)]) {
        let mut ours: Vec<_> = environment
            .iter()
            .map(|(name, value)| (name.to_string_lossy(), value))
            .filter(|(name, _)| name.starts_with(PREFIX) && !is_service_link(name))
            .collect();
        ours.sort();
        for (name, value) in ours {
            let name = name.as_ref();
            if name == LISTENER_VARIABLE {
                self.environment_listeners(value);
                continue;
            }
            let Some(key) = keys::keys().find(|key| key.variable() == name) else {
                self.unknown_variable(name);
                continue;
            };
            match variable_value(key, value) {
                Ok(value) => self
                    .loaded
                    .set(key, value, Origin::Environment(name.to_owned())),
                Err(message) => {
                    let message = format!("environment variable {name}: {message}");
                    self.diagnostics.push(Diagnostic::new(message));
                }
            }
        }
    }

    fn environment_listeners(&mut self, value: &OsStr) {
        let mut listeners = Vec::new();
        for text in value.to_string_lossy().split(',') {
            match text.trim().parse::<Address>() {
                Ok(address) => {
                    let origin = Origin::Environment(LISTENER_VARIABLE.to_owned());
                    listeners.push((address, ListenerRules::default(), origin));
                }
                Err(error) => {
                    let message = format!("environment variable {LISTENER_VARIABLE}: {error}");
                    self.diagnostics.push(Diagnostic::new(message));
                }
            }
        }
        self.listeners = Some(listeners);
    }

    fn unknown_variable(&mut self, name: &str) {
        let names: Vec<String> = keys::keys()
            .map(Key::variable)
            .chain([LISTENER_VARIABLE.to_owned()])
            .collect();
        // The prefix is the same in all and must not make distant names look near.
        let tail = name.strip_prefix(PREFIX).unwrap_or(name);
        let tails = names.iter().filter_map(|name| name.strip_prefix(PREFIX));
        let hint = closest(tail, tails).map_or_else(
            || "names have the form AXMQ_SECTION__KEY".to_owned(),
            |near| format!("did you mean {PREFIX}{near}?"),
        );
        let message = format!("unknown environment variable {}", name.escape_debug());
        self.diagnostics
            .push(Diagnostic::new(message).hint(Some(hint)));
    }

    fn command_line(&mut self, given: &CommandLine) {
        let values = [
            (
                "broker",
                "data_dir",
                "--data-dir",
                given.data_dir.clone().map(Value::Path),
            ),
            (
                "broker",
                "shards",
                "--shards",
                given.shards.map(|n| Value::Number(n.into())),
            ),
            (
                "log",
                "level",
                "--log",
                given.log.map(|level| Value::Word(level.name())),
            ),
            (
                "broker",
                "allow_anonymous",
                "--allow-anonymous",
                given.allow_anonymous.then_some(Value::Flag(true)),
            ),
        ];
        for (section, name, option, value) in values {
            let (Some(key), Some(value)) = (keys::find(section, name), value) else {
                continue;
            };
            match key.admits(&value) {
                Ok(()) => self.loaded.set(key, value, Origin::CommandLine(option)),
                Err(message) => {
                    let message = format!("{option}: {message}");
                    self.diagnostics.push(Diagnostic::new(message));
                }
            }
        }
        if !given.listen.is_empty() {
            let origin = Origin::CommandLine("--listen");
            let listen = given
                .listen
                .iter()
                .map(|address| (address.clone(), ListenerRules::default(), origin.clone()));
            self.listeners = Some(listen.collect());
        }
    }

    /// Makes the data directory a full path, or finds the one that the system has for us.
    fn data_dir(&mut self, environment: &[(OsString, OsString)]) {
        let Some(key) = keys::find("broker", "data_dir") else {
            return;
        };
        let (path, origin) = match self.loaded.config.broker.data_dir.take() {
            Some(path) => (path, self.loaded.origin(key).clone()),
            None => match default_data_dir(environment) {
                Some((path, variable)) => (path, Origin::Environment(variable.to_owned())),
                None => {
                    let message = "there is no place for the data directory: \
                        neither $STATE_DIRECTORY nor $XDG_STATE_HOME nor $HOME is set";
                    let hint = "name one with --data-dir".to_owned();
                    self.diagnostics
                        .push(Diagnostic::new(message).hint(Some(hint)));
                    return;
                }
            },
        };
        match std::path::absolute(&path) {
            Ok(path) => self.loaded.set(key, Value::Path(path), origin),
            Err(error) => {
                let message = format!("the data directory {}: {error}", path.display());
                self.diagnostics.push(Diagnostic::new(message));
            }
        }
    }

    /// Looks the listeners' names up.
    fn resolve(&mut self) {
        let Some(listeners) = self.listeners.take() else {
            return;
        };
        self.loaded.config.listeners.clear();
        self.loaded.listener_origins.clear();
        for (address, rules, origin) in listeners {
            match address.resolve() {
                Ok(found) => {
                    for mut listener in found {
                        listener.rules = rules.clone();
                        self.add_listener(listener, origin.clone());
                    }
                }
                Err(error) => {
                    let message = format!("cannot find the address of {address}: {error}");
                    self.complain(message, &origin);
                }
            }
        }
    }

    fn add_listener(&mut self, listener: Listener, origin: Origin) {
        self.loaded.config.listeners.push(listener);
        self.loaded.listener_origins.push(origin);
    }

    /// Checks the whole, and says for each violation where one of its values was set.
    fn check(&mut self) {
        for Violation {
            keys,
            listener,
            message,
        } in self.loaded.config.check()
        {
            let origin = match listener {
                Some(index) => Some(self.loaded.listener_origin(index)),
                None => keys.iter().find_map(|(s, n)| self.loaded.find_origin(s, n)),
            };
            let origin = origin.cloned().unwrap_or(Origin::Default);
            self.complain(message, &origin);
        }
    }

    fn complain(&mut self, message: String, origin: &Origin) {
        let diagnostic = match origin {
            Origin::Default => Diagnostic::new(message),
            Origin::File(place) => Diagnostic::new(message).at(Some(place.clone())),
            Origin::Environment(name) => {
                Diagnostic::new(format!("environment variable {name}: {message}"))
            }
            Origin::CommandLine(option) => Diagnostic::new(format!("{option}: {message}")),
        };
        self.diagnostics.push(diagnostic);
    }
}

const PREFIX: &str = "AXMQ_";
/// Addresses to listen on, with commas between them.
const LISTENER_VARIABLE: &str = "AXMQ_LISTENER__ADDRESS";

/// Whether this is one of the variables that Kubernetes sets in each container for a service
/// whose name begins with `axmq`, such as `AXMQ_SERVICE_HOST` or `AXMQ_PORT_1883_TCP_ADDR`. No key
/// of ours has such a name, and they must not keep the broker from starting.
fn is_service_link(name: &str) -> bool {
    let name = name.strip_prefix("AXMQ").unwrap_or(name);
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || name.ends_with("_PORT")
            || name.contains("_PORT_"))
}

/// The value of a variable for `key`, or what is wrong with it.
fn variable_value(key: &Key, value: &OsStr) -> Result<Value, String> {
    let text = value.to_str();
    let quoted = || format!("{:?}", value.to_string_lossy());
    let refuse = || key.out_of_range(&quoted());
    let typed = match key.kind {
        Kind::Path => Value::Path(PathBuf::from(value)),
        Kind::Text | Kind::Networks => Value::Text(text.ok_or_else(refuse)?.to_owned()),
        Kind::Number { .. } => {
            let digits = text.ok_or_else(refuse)?.replace('_', "");
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(refuse());
            }
            Value::Number(digits.parse().map_err(|_| refuse())?)
        }
        Kind::Flag => Value::Flag(text.and_then(|text| text.parse().ok()).ok_or_else(refuse)?),
        Kind::Choice(words) => {
            let word = words.iter().find(|word| Some(**word) == text);
            Value::Word(word.ok_or_else(refuse)?)
        }
        Kind::Words(words) => {
            let names = text.ok_or_else(refuse)?.split(',').map(str::trim);
            let found = names.map(|name| words.iter().copied().find(|word| *word == name));
            Value::Words(found.collect::<Option<_>>().ok_or_else(refuse)?)
        }
    };
    key.admits(&typed)?;
    Ok(typed)
}

/// The folder that the service manager or the desktop's rules assign, and by which variable.
///
/// A relative `$XDG_STATE_HOME` is passed over, as the XDG Base Directory Specification demands.
fn default_data_dir(environment: &[(OsString, OsString)]) -> Option<(PathBuf, &'static str)> {
    use std::os::unix::ffi::OsStrExt;

    let variable = |wanted: &str| {
        let (_, value) = environment.iter().find(|(name, _)| name == wanted)?;
        (!value.is_empty()).then_some(value.as_os_str())
    };
    // systemd separates several by colons (systemd.exec(5), RuntimeDirectory=).
    let first = variable("STATE_DIRECTORY").and_then(|all| {
        all.as_bytes()
            .split(|b| *b == b':')
            .find(|part| !part.is_empty())
    });
    if let Some(first) = first {
        return Some((PathBuf::from(OsStr::from_bytes(first)), "STATE_DIRECTORY"));
    }
    if let Some(home) = variable("XDG_STATE_HOME").map(Path::new)
        && home.is_absolute()
    {
        return Some((home.join("axmq"), "XDG_STATE_HOME"));
    }
    variable("HOME").map(|home| (Path::new(home).join(".local/state/axmq"), "HOME"))
}
