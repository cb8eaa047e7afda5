//! The connection to a broker, on a thread of its own.
//!
//! What is to be known for good stands in a table and is said again at each connection, so that a
//! broker that forgot everything learns it. Events wait in a queue of limited length until the
//! broker has acknowledged them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rumqttc::{
    Client, Connection, ConnectionError, Event, LastWill, MqttOptions, Outgoing, Packet, QoS,
    SubscribeFilter,
};

use super::super::super::output::complain;
use super::address::Address;
use super::topics::{self, Retained, Topics};

/// Messages that wait for the broker; the oldest events give way.
const WAITING: usize = 1000;
/// Messages that were sent and not yet acknowledged.
const UNDERWAY: usize = 16;
/// Longest message, in bytes.
const LONGEST: usize = 32 << 10;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long the end waits for what is still to be said.
const GOODBYE: Duration = Duration::from_secs(3);
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
struct Message {
    topic: String,
    payload: String,
    retain: bool,
    /// The packet that carries it, once it is on its way.
    packet: Option<u16>,
}

/// How the connection is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Whether the broker can be reached.
    pub connected: bool,
    /// Events that gave way to newer ones, or were too long.
    pub dropped: u64,
    /// Times that the connection was lost or refused.
    pub outages: u64,
}

#[derive(Default)]
struct State {
    retained: Retained,
    waiting: VecDeque<Message>,
    underway: VecDeque<Message>,
    counts: Counts,
    ending: bool,
    ended: bool,
}

struct Shared {
    client: Client,
    state: Mutex<State>,
    changed: Condvar,
    shown: String,
    topics: Topics,
}

/// A broker that is spoken to.
pub struct Link(Arc<Shared>);

impl Link {
    /// Begins to connect.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn open(
        address: &Address,
        client_id: &str,
        password: Option<String>,
        topics: Topics,
    ) -> std::io::Result<Self> {
        let mut options = MqttOptions::new(client_id, &address.host, address.port);
        options.set_keep_alive(KEEP_ALIVE).set_inflight(UNDERWAY as u16);
        options.set_max_packet_size(1 << 20, 2 * LONGEST);
        options.set_last_will(LastWill::new(
            topics.availability(),
            "offline",
            QoS::AtLeastOnce,
            true,
        ));
        if let Some((user, given)) = &address.user {
            let password = given.clone().or(password).unwrap_or_default();
            options.set_credentials(user, password);
        }
        let (client, connection) = Client::new(options, 2 * UNDERWAY);
        let shared = Arc::new(Shared {
            client,
            state: Mutex::default(),
            changed: Condvar::new(),
            shown: address.to_string(),
            topics,
        });
        let own = Arc::clone(&shared);
        thread::Builder::new().name("mqtt".to_owned()).spawn(move || own.run(connection))?;
        Ok(Self(shared))
    }

    /// Replaces the table of what is known for good: what is new or different is said, and what
    /// is gone is taken back.
    pub fn replace(&self, mut retained: Retained) {
        let mut state = self.0.lock();
        let before = std::mem::take(&mut state.retained);
        for (topic, payload) in &before {
            // What was last said of a label that stays.
            if topics::label_of_attributes(topic).is_some_and(|label| retained.contains_key(label))
            {
                retained.insert(topic.clone(), payload.clone());
            }
        }
        state.retained = retained.clone();
        for topic in before.into_keys().filter(|topic| !retained.contains_key(topic)) {
            state.say(topic, String::new(), true);
        }
        for (topic, payload) in retained {
            state.say(topic, payload, true);
        }
        self.0.send(&mut state);
    }

    /// Changes one entry of the table.
    pub fn set(&self, topic: String, payload: String) {
        let mut state = self.0.lock();
        state.retained.insert(topic.clone(), payload.clone());
        state.say(topic, payload, true);
        self.0.send(&mut state);
    }

    /// Tells an event.
    pub fn tell(&self, topic: String, payload: String) {
        let mut state = self.0.lock();
        state.say(topic, payload, false);
        self.0.send(&mut state);
    }

    /// How the connection is doing.
    pub fn counts(&self) -> Counts {
        self.0.lock().counts
    }

    /// Says that it is over, and waits a little for the broker to hear it.
    pub fn finish(&self) {
        let deadline = Instant::now() + GOODBYE;
        let mut state = self.0.lock();
        state.ending = true;
        state.say(self.0.topics.availability(), "offline".to_owned(), true);
        self.0.send(&mut state);
        self.0.changed.notify_all();
        while !state.ended && state.counts.connected {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let unsaid = state.waiting.iter().chain(&state.underway).filter(|m| !m.retain).count();
        let lost = state.counts.dropped + unsaid as u64;
        drop(state);
        if lost > 0 {
            complain(&format!("{}: {lost} events were not told", self.0.shown));
        }
    }
}

impl State {
    /// Has something said when the broker takes it.
    fn say(&mut self, topic: String, payload: String, retain: bool) {
        if topic.len() + payload.len() > LONGEST {
            self.counts.dropped += 1;
            return;
        }
        if retain {
            // The table is said as a whole at the next connection; and only the last word counts.
            if !self.counts.connected {
                return;
            }
            self.waiting.retain(|message| !message.retain || message.topic != topic);
        } else if self.waiting.iter().filter(|message| !message.retain).count() >= WAITING {
            let oldest = self.waiting.iter().position(|message| !message.retain);
            oldest.map(|oldest| self.waiting.remove(oldest));
            self.counts.dropped += 1;
        }
        self.waiting.push_back(Message { topic, payload, retain, packet: None });
    }

    /// The connection is gone: what was on its way waits again.
    fn disconnect(&mut self) {
        if self.counts.connected || self.counts.outages == 0 {
            self.counts.outages += 1;
        }
        self.counts.connected = false;
        while let Some(mut message) = self.underway.pop_back() {
            message.packet = None;
            self.waiting.push_front(message);
        }
        self.waiting.retain(|message| !message.retain);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over what waits, as far as there is room; never waits itself.
    fn send(&self, state: &mut State) {
        while state.counts.connected && state.underway.len() < UNDERWAY {
            let Some(message) = state.waiting.pop_front() else { break };
            let (topic, payload) = (message.topic.clone(), message.payload.clone());
            let sent = self.client.try_publish(topic, QoS::AtLeastOnce, message.retain, payload);
            if sent.is_err() {
                state.waiting.push_front(message);
                break;
            }
            state.underway.push_back(message);
        }
        let is_silent = state.waiting.is_empty() && state.underway.is_empty();
        if state.ending && state.counts.connected && is_silent {
            let _ = self.client.try_disconnect();
        }
    }

    fn run(&self, mut connection: Connection) {
        let mut wait = FIRST_WAIT;
        loop {
            match connection.recv() {
                Ok(Ok(event)) => {
                    if matches!(event, Event::Incoming(Packet::ConnAck(_))) {
                        wait = FIRST_WAIT;
                    }
                    self.take(event);
                }
                Ok(Err(error)) => {
                    if self.lose(&error, wait) {
                        break;
                    }
                    wait = (2 * wait).min(LONGEST_WAIT);
                }
                Err(_) => break,
            }
        }
        let mut state = self.lock();
        (state.counts.connected, state.ended) = (false, true);
        self.changed.notify_all();
    }

    fn take(&self, event: Event) {
        let mut state = self.lock();
        match event {
            Event::Incoming(Packet::ConnAck(_)) => self.greet(&mut state),
            Event::Outgoing(Outgoing::Publish(packet)) => {
                let next = state.underway.iter_mut().find(|message| message.packet.is_none());
                if let Some(message) = next {
                    message.packet = Some(packet);
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                state.underway.retain(|message| message.packet != Some(ack.pkid));
            }
            Event::Incoming(Packet::Publish(found)) => {
                // Retained by a former run, for a label that is no more.
                let is_stale = found.retain
                    && !found.payload.is_empty()
                    && !state.retained.contains_key(&found.topic);
                if is_stale {
                    state.say(found.topic, String::new(), true);
                }
            }
            Event::Incoming(Packet::PingResp) => {
                // By now what was retained has come.
                for topic in self.topics.leftovers() {
                    let _ = self.client.try_unsubscribe(topic);
                }
            }
            _ => {}
        }
        self.send(&mut state);
    }

    /// Says everything to a broker that may know nothing.
    fn greet(&self, state: &mut State) {
        if state.counts.outages > 0 {
            complain(&format!("{}: connected", self.shown));
        }
        state.counts.connected = true;
        let filters = self.topics.leftovers().into_iter();
        let filters = filters.map(|topic| SubscribeFilter::new(topic, QoS::AtLeastOnce));
        let _ = self.client.try_subscribe_many(filters);
        state.say(self.topics.availability(), "online".to_owned(), true);
        for (topic, payload) in state.retained.clone() {
            state.say(topic, payload, true);
        }
    }

    /// Waits before the next try; true when there is none.
    fn lose(&self, error: &ConnectionError, wait: Duration) -> bool {
        let mut state = self.lock();
        if state.ending {
            return true;
        }
        if state.counts.connected || state.counts.outages == 0 {
            complain(&format!("{}: {error}; trying again, and going on without", self.shown));
        }
        state.disconnect();
        let until = Instant::now() + wait;
        while !state.ending {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
