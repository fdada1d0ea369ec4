//! A stand-in that listens and does nothing else, for the tests of the program around it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::error::{RunError, StartError};

/// The broker, before it runs.
#[derive(Debug, Clone, Copy)]
pub struct Broker;

/// A broker that runs.
#[derive(Debug)]
pub struct Running {
    _data_dir: Option<DataDir>,
    _listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    shards: usize,
    connections_max: u64,
    stopper: Stopper,
}

/// Asks a running broker to stop, from any thread.
#[derive(Debug, Clone, Default)]
pub struct Stopper(Arc<(Mutex<bool>, Condvar)>);

impl Stopper {
    /// Makes [`Running::wait`] return.
    pub fn stop(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }
}

impl Broker {
    /// Starts a broker.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn start(config: Config) -> Result<Running, StartError> {
        let data_dir = config
            .broker
            .data_dir
            .as_deref()
            .map(DataDir::open)
            .transpose()?;
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for listener in &config.listeners {
            let addr = listener.address;
            let bound = TcpListener::bind(addr).and_then(|l| Ok((l.local_addr()?, l)));
            match bound {
                Ok((address, socket)) => {
                    addresses.push(address);
                    listeners.push(socket);
                }
                Err(error)
                    if listener.optional && error.kind() == io::ErrorKind::AddrNotAvailable =>
                {
                    tracing::warn!(address = %addr, %error, "not listening");
                }
                Err(source) => return Err(StartError::Bind { addr, source }),
            }
        }
        Ok(Running {
            _data_dir: data_dir,
            _listeners: listeners,
            addresses,
            shards: config.broker.shard_count(),
            connections_max: config.limits.connections,
            stopper: Stopper::default(),
        })
    }
}

impl Running {
    /// The addresses listened on, with their real ports.
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The number of shards.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// The most connections at a time.
    pub fn connections_max(&self) -> u64 {
        self.connections_max
    }

    /// A handle that stops this broker.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until the broker is asked to stop, or cannot go on.
    ///
    /// # Errors
    ///
    /// See [`RunError`].
    pub fn wait(&self) -> Result<(), RunError> {
        let (stopped, changed) = &*self.stopper.0;
        let guard = stopped.lock().unwrap_or_else(PoisonError::into_inner);
        drop(changed.wait_while(guard, |stopped| !*stopped));
        Ok(())
    }

    /// Ends in good order.
    ///
    /// # Errors
    ///
    /// See [`RunError`].
    pub fn shutdown(self) -> Result<(), RunError> {
        Ok(())
    }
}
