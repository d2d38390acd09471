//! The harness' end of the line to an agent.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{bail, Context, Result};

use crate::proto::{Framed, Reply, Request};

/// What the host allows beyond the agent's own deadline before it calls the node dead.
const GRACE: Duration = Duration::from_secs(20);

type Waiting = Arc<Mutex<Option<HashMap<u64, Sender<Reply>>>>>;

/// A connection to the agent of one boot of one node.
pub(crate) struct Link {
    writer: Mutex<UnixStream>,
    waiting: Waiting,
    next_id: AtomicU64,
}

/// An answer that has been asked for and may have come already.
pub(crate) struct Pending {
    receiver: Receiver<Reply>,
    deadline: Duration,
}

impl Link {
    /// Waits for the agent's greeting and returns the link with the node's kernel release.
    pub(crate) fn open(stream: UnixStream, deadline: Duration) -> Result<(Self, String)> {
        let (sender, greeting) = channel();
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::from([(0, sender)]))));
        let reader = stream.try_clone().context("duplicate the agent's line")?;
        let shared = Arc::clone(&waiting);
        thread::spawn(move || read_answers(reader, &shared));
        let link = Self {
            writer: Mutex::new(stream),
            waiting,
            next_id: AtomicU64::new(1),
        };
        match greeting.recv_timeout(deadline) {
            Ok(Reply::Hello { release }) => Ok((link, release)),
            Ok(other) => bail!("expected the agent's greeting, got {other:?}"),
            Err(RecvTimeoutError::Timeout) => {
                bail!("no greeting from the agent within {deadline:?}; see the console")
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the node ended before its agent came up; see the console")
            }
        }
    }

    /// Sends a request whose answer is due within `deadline` (by the agent's clock).
    pub(crate) fn ask(&self, request: Request, deadline: Duration) -> Result<Pending> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = channel();
        match self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            Some(waiting) => waiting.insert(id, sender),
            None => bail!("the node is down"),
        };
        let mut text = serde_json::to_string(&Framed { id, body: request })?;
        text.push('\n');
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer
            .write_all(text.as_bytes())
            .context("the node is down")?;
        Ok(Pending {
            receiver,
            deadline: deadline + GRACE,
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Ends the reader thread even while a dying node still holds its end.
        if let Ok(writer) = self.writer.lock() {
            let _ = writer.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Pending {
    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// The node died, or its agent did not answer in time (the node hangs).
    pub(crate) fn wait(self) -> Result<Reply> {
        match self.receiver.recv_timeout(self.deadline) {
            Ok(reply) => Ok(reply),
            Err(RecvTimeoutError::Timeout) => {
                bail!(
                    "the node hangs: no answer from its agent within {:?}",
                    self.deadline
                )
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the node died"),
        }
    }
}

fn read_answers(stream: UnixStream, waiting: &Waiting) {
    for text in BufReader::new(stream).split(b'\n') {
        let Ok(text) = text else { break };
        // The line may carry noise before the agent has set it up.
        let Ok(Framed { id, body }) = serde_json::from_slice::<Framed<Reply>>(&text) else {
            continue;
        };
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = waiting.as_mut().and_then(|waiting| waiting.remove(&id)) {
            let _ = sender.send(body);
        }
    }
    *waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
}
