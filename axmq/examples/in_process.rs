//! Publish and subscribe within the program that runs the broker: no socket, no client library.
//!
//! ```sh
//! cargo run -p axmq --example in_process
//! ```
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;

use axmq::{Broker, Message, Properties, QoS};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let running = Broker::builder().listen_nowhere().start()?;
    let handle = running.handle();

    // It comes as a retained message or, where it is still under way to its shard, live: once.
    handle.publish(Message::new("plant/1/state", "running").retain(true))?;
    let states = handle.subscribe("plant/+/state", 100)?;
    let first = states.recv()?;
    println!(
        "{} was {:?}",
        first.topic(),
        first.payload().escape_ascii().to_string()
    );

    // From another thread; `publish` waits where the broker cannot keep up, `try_publish` says so.
    let publisher = std::thread::spawn(move || {
        for n in 0..3 {
            let properties = Properties {
                content_type: Some("text/plain".to_owned()),
                user: vec![("line".to_owned(), n.to_string())],
                ..Properties::default()
            };
            let message = Message::new("plant/2/state", format!("step {n}"))
                .qos(QoS::AtLeastOnce)
                .properties(properties)
                .expiry_s(60);
            handle.publish(message)?;
        }
        Ok::<(), axmq::PublishError>(())
    });
    for n in 0..3 {
        let received = states.recv()?;
        assert_eq!(received.payload(), format!("step {n}").as_bytes());
        println!("{} {:?}", received.topic(), received.properties().user);
    }
    publisher.join().map_err(|_| "the publisher panicked")??;
    assert_eq!(states.dropped(), 0);

    running.shutdown()?;
    assert!(
        states.recv().is_err(),
        "the end of the broker ends the subscription"
    );
    Ok(())
}
