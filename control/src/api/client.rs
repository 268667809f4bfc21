//! The client's end of the control socket: blocking, one request at a time.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::event::{ApiEvent, Subscription, Topic};
use super::message::ApiError;
use super::show::{Rows, ShowQuery};

/// Time limit for an answer of the daemon.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No process listens on the socket.
    #[error(
        "vtepd is not running: no process listens on {0}; start it, or name its socket with \
         --socket"
    )]
    NotRunning(PathBuf),
    /// The permissions of the socket deny access.
    #[error("permission denied for {0}: must be root or a member of the group in control.group")]
    Denied(PathBuf),
    /// The daemon is there and does not answer.
    #[error(
        "vtepd has not answered for {} s: it is stopped, or busy; `top -H -p $(pidof vtepd)` shows \
         its threads",
        REQUEST_TIMEOUT.as_secs()
    )]
    NoAnswer,
    /// The connection failed.
    #[error("control socket: {0}")]
    Io(io::Error),
    /// The daemon closed the connection.
    #[error("vtepd closed the connection without an answer")]
    Closed,
    /// The daemon sent something other than an answer.
    #[error("invalid answer of vtepd: {0}")]
    Answer(#[from] serde_json::Error),
    /// The daemon refused.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A timeout of the socket (SO_RCVTIMEO, socket(7)).
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::NoAnswer,
            _ => Self::Io(error),
        }
    }
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    next_id: u64,
}

#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    result: Value,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct Notification {
    params: ApiEvent,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`], [`ClientError::Denied`] or [`ClientError::Io`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                ClientError::NotRunning(path.to_owned())
            }
            ErrorKind::PermissionDenied => ClientError::Denied(path.to_owned()),
            _ => ClientError::Io(error),
        })?;
        stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
        stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
        Ok(Self {
            stream: BufReader::new(stream),
            next_id: 1,
        })
    }

    /// Sends one line and reads one line.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Closed`].
    pub fn exchange(&mut self, line: &str) -> Result<String, ClientError> {
        let sent = self
            .stream
            .get_mut()
            .write_all(format!("{line}\n").as_bytes());
        // A daemon that refuses a request may answer and close before it has read all of it.
        let mut answer = String::new();
        match self.stream.read_line(&mut answer) {
            Ok(0) => sent
                .map_err(ClientError::from)
                .and(Err(ClientError::Closed)),
            Ok(_) => Ok(answer),
            Err(error) => Err(error.into()),
        }
    }

    /// Calls a method.
    ///
    /// # Errors
    /// [`ClientError::Api`] when the daemon refuses; others when the connection fails.
    pub fn call(&mut self, method: &str, params: impl Serialize) -> Result<Value, ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let answer: Response = serde_json::from_str(&self.exchange(&request.to_string())?)?;
        answer
            .error
            .map_or(Ok(answer.result), |error| Err(error.into()))
    }

    /// Calls a method whose result is of type `T`.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn call_as<T: DeserializeOwned>(
        &mut self,
        method: &str,
        params: impl Serialize,
    ) -> Result<T, ClientError> {
        Ok(serde_json::from_value(self.call(method, params)?)?)
    }

    /// Subscribes to events; [`Self::events`] receives them.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn subscribe(&mut self, topics: Vec<Topic>) -> Result<(), ClientError> {
        self.call("monitor.subscribe", Subscription { topics })
            .map(drop)
    }

    /// Passes each event to `each`, until the daemon ends the connection or `each` fails.
    ///
    /// # Errors
    /// As [`Self::call`]; and what `each` returns.
    pub fn events<E: From<ClientError>>(
        mut self,
        mut each: impl FnMut(ApiEvent) -> Result<(), E>,
    ) -> Result<(), E> {
        self.stream
            .get_ref()
            .set_read_timeout(None)
            .map_err(ClientError::Io)?;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).map_err(ClientError::Io)? == 0 {
                return Err(ClientError::Closed.into());
            }
            let notification: Notification =
                serde_json::from_str(&line).map_err(ClientError::Answer)?;
            each(notification.params)?;
        }
    }

    /// Calls a method that answers [`Rows`], page by page, and passes each page to `each`.
    ///
    /// # Errors
    /// As [`Self::call`]; and what `each` returns.
    pub fn pages<T: DeserializeOwned, E: From<ClientError>>(
        &mut self,
        method: &str,
        mut query: ShowQuery,
        mut each: impl FnMut(Vec<T>) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let page: Rows<T> = self.call_as(method, &query)?;
            each(page.rows)?;
            let Some(next) = page.next else { return Ok(()) };
            query.after = Some(next);
        }
    }
}
