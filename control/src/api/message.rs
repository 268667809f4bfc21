//! JSON-RPC 2.0 messages: one object, or one array of objects (a batch), per line.

use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::action::Action;
use super::event::Subscription;
use super::show::{MAX_ROWS, ShowQuery, ShowRequest};
use crate::config::{BatchError, Change, Diagnostics, Severity};

/// The longest request, bytes, without its line end.
pub const MAX_REQUEST: usize = 1 << 20;

/// Limit on requests in a batch: more than valid requests fill [`MAX_REQUEST`] with.
pub const MAX_BATCH: usize = 16_384;

/// Error codes: those of JSON-RPC, and one of vtepd.
pub mod code {
    /// Not JSON, or nested too deeply.
    pub const PARSE: i32 = -32700;
    /// JSON, but not a request.
    pub const INVALID_REQUEST: i32 = -32600;
    /// No such method.
    pub const NO_METHOD: i32 = -32601;
    /// Invalid parameters.
    pub const INVALID_PARAMS: i32 = -32602;
    /// The daemon failed.
    pub const INTERNAL: i32 = -32603;
    /// Valid, and refused since it conflicts with the current state.
    pub const REFUSED: i32 = -32000;
}

/// An error as sent over the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// One of [`code`].
    pub code: i32,
    /// What is invalid, and what would be valid.
    pub message: String,
    /// The part of the request at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<ErrorData>,
}

/// The part of a request at fault.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ErrorData {
    /// Its position in the batch, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// The field of `params`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl ApiError {
    /// An error without data.
    #[must_use]
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// A refusal of a valid request.
    #[must_use]
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(code::REFUSED, message)
    }

    /// Adds the position in the batch.
    #[must_use]
    pub fn at(mut self, index: usize) -> Self {
        self.data.get_or_insert_default().index = Some(index);
        self
    }

    pub(crate) fn field(mut self, field: &str) -> Self {
        self.data.get_or_insert_default().field = Some(field.to_owned());
        self
    }
}

impl From<BatchError> for ApiError {
    fn from(error: BatchError) -> Self {
        let field = error.error.field();
        Self::refused(format!("{field}: {}", error.error))
            .field(field)
            .at(error.index)
    }
}

impl From<Diagnostics> for ApiError {
    fn from(diagnostics: Diagnostics) -> Self {
        let field = diagnostics
            .list()
            .iter()
            .find(|diagnostic| diagnostic.severity == Severity::Error)
            .map(|diagnostic| diagnostic.key.clone())
            .unwrap_or_default();
        Self::new(code::INVALID_PARAMS, diagnostics.to_string()).field(&field)
    }
}

/// The configuration that a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigSource {
    /// The text of a file that the client read; none = the daemon's own file. The daemon runs as
    /// root, so it opens no file that a client names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The name of that file, for messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Where `config.save` writes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SaveTarget {
    /// Answer with the text instead of writing the daemon's own file.
    pub print: bool,
}

/// What to do with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigRequest {
    /// Checks it on this host. Answers [`ConfigCheck`].
    Check(ConfigSource),
    /// Computes what applying it would change. Answers [`ConfigDiff`].
    Diff(ConfigSource),
    /// Applies the difference, all or nothing. Answers [`ConfigDiff`], what was applied.
    Apply(ConfigSource),
    /// Writes the running configuration. Answers [`ConfigSave`].
    Save(SaveTarget),
}

/// The answer of `config.check`; a rejected configuration is an error instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigCheck {
    /// Warnings, one line each.
    pub warnings: Vec<String>,
}

/// The answer of `config.diff` and `config.apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigDiff {
    /// What changes, one line for each key or entry: with `+` added, with `-` deleted, with `~`
    /// changed, with its old and new value and what that costs.
    pub changes: Vec<String>,
    /// Keys whose new values require a restart of the daemon.
    pub restart: Vec<String>,
    /// Neighbors whose sessions are reset.
    pub resets: Vec<IpAddr>,
}

/// The answer of `config.save`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigSave {
    /// The file that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The text, on request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The operation of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Change the running configuration.
    Change(Change),
    /// Show something.
    Show(ShowRequest),
    /// Work on configurations.
    Config(ConfigRequest),
    /// Perform an action.
    Act(Action),
    /// Send events from now on.
    Subscribe(Subscription),
}

/// A parsed request.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcRequest {
    /// Echoed in the response; `None` = a notification, which gets none.
    pub id: Option<Value>,
    /// Its operation.
    pub call: Result<Call, ApiError>,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub enum RpcMessage {
    /// One request.
    Single(RpcRequest),
    /// Several, applied as one transaction.
    Batch(Vec<RpcRequest>),
}

impl RpcMessage {
    /// Parses one line. `serde_json` rejects nesting deeper than 128.
    ///
    /// # Errors
    /// [`code::PARSE`] or [`code::INVALID_REQUEST`] when there is no request to answer.
    pub fn read(line: &[u8]) -> Result<Self, ApiError> {
        let value = serde_json::from_slice(line)
            .map_err(|error| ApiError::new(code::PARSE, format!("invalid JSON: {error}")))?;
        match value {
            Value::Array(items) if items.is_empty() => Err(ApiError::new(
                code::INVALID_REQUEST,
                "empty batch: must hold at least one request",
            )),
            Value::Array(items) if items.len() > MAX_BATCH => {
                let message = format!(
                    "invalid batch of {} requests: must be at most {MAX_BATCH}",
                    items.len()
                );
                Err(ApiError::new(code::INVALID_REQUEST, message))
            }
            Value::Array(items) => Ok(Self::Batch(
                items.into_iter().map(RpcRequest::read).collect(),
            )),
            other => Ok(Self::Single(RpcRequest::read(other))),
        }
    }
}

impl RpcRequest {
    fn read(value: Value) -> Self {
        let Value::Object(mut object) = value else {
            let error = ApiError::new(code::INVALID_REQUEST, "invalid request: must be an object");
            return Self {
                id: Some(Value::Null),
                call: Err(error),
            };
        };
        let id = object.remove("id");
        if id
            .as_ref()
            .is_some_and(|id| !(id.is_string() || id.is_number() || id.is_null()))
        {
            let error = ApiError::new(
                code::INVALID_REQUEST,
                "invalid id: must be a string or a number",
            )
            .field("id");
            return Self {
                id: Some(Value::Null),
                call: Err(error),
            };
        }
        let call = read_call(object);
        // An invalid request gets an answer even without an id (JSON-RPC 2.0 section 5).
        let invalid = matches!(&call, Err(error) if error.code == code::INVALID_REQUEST);
        Self {
            id: if invalid {
                Some(id.unwrap_or_default())
            } else {
                id
            },
            call,
        }
    }
}

fn read_call(mut object: Map<String, Value>) -> Result<Call, ApiError> {
    let invalid = |field: &str, what: &str| {
        Err(ApiError::new(code::INVALID_REQUEST, format!("{field}: {what}")).field(field))
    };
    if object.remove("jsonrpc") != Some(json!("2.0")) {
        return invalid("jsonrpc", "must be \"2.0\"");
    }
    let Some(Value::String(method)) = object.remove("method") else {
        return invalid(
            "method",
            "must be the name of a method, such as \"show.status\"",
        );
    };
    let params = object.remove("params").unwrap_or_else(|| json!({}));
    if let Some(unknown) = object.keys().next() {
        return invalid(
            unknown,
            "unknown field; a request has jsonrpc, id, method and params",
        );
    }
    if !params.is_object() {
        return Err(
            ApiError::new(code::INVALID_PARAMS, "params: must be an object").field("params"),
        );
    }
    if let Some(change) = Change::from_request(&method, &params) {
        return Ok(Call::Change(change?));
    }
    let unknown = || {
        ApiError::new(
            code::NO_METHOD,
            format!("unknown method {method:?}; docs/api.md lists the methods"),
        )
    };
    match method.split_once('.') {
        Some(("show", what)) => read_show(what, params).ok_or_else(unknown)?.map(Call::Show),
        Some(("config", what)) => read_config(what, params)
            .ok_or_else(unknown)?
            .map(Call::Config),
        Some(("monitor", "subscribe")) => read_params(params).map(Call::Subscribe),
        _ => read_action(&method, params)
            .ok_or_else(unknown)?
            .map(Call::Act),
    }
}

fn read_show(what: &str, params: Value) -> Option<Result<ShowRequest, ApiError>> {
    let show: fn(ShowQuery) -> ShowRequest = match what {
        "status" => return Some(read_params::<NoParams>(params).map(|_| ShowRequest::Status)),
        "bgp.summary" => {
            return Some(read_params::<NoParams>(params).map(|_| ShowRequest::BgpSummary));
        }
        "bgp.neighbor" => return Some(read_params(params).map(ShowRequest::BgpNeighbor)),
        "bgp.routes" => ShowRequest::BgpRoutes,
        "bgp.segments" => ShowRequest::BgpSegments,
        "vni" => ShowRequest::Vni,
        "mac" => ShowRequest::Mac,
        "flood" => ShowRequest::Flood,
        "ports" => ShowRequest::Ports,
        "workers" => ShowRequest::Workers,
        "underlay" => ShowRequest::Underlay,
        "drops" => ShowRequest::Drops,
        "neighbors" => ShowRequest::Neighbors,
        _ => return None,
    };
    Some(query(params).map(show))
}

fn read_config(what: &str, params: Value) -> Option<Result<ConfigRequest, ApiError>> {
    Some(match what {
        "check" => read_params(params).map(ConfigRequest::Check),
        "diff" => read_params(params).map(ConfigRequest::Diff),
        "apply" => read_params(params).map(ConfigRequest::Apply),
        "save" => read_params(params).map(ConfigRequest::Save),
        _ => return None,
    })
}

fn read_action(method: &str, params: Value) -> Option<Result<Action, ApiError>> {
    Some(match method {
        "mac.move" => read_params(params).map(Action::MacMove),
        "mac.unfreeze" => read_params(params).map(Action::MacUnfreeze),
        "bgp.clear" => read_params(params).map(Action::BgpClear),
        "bgp.shutdown" => read_params(params).map(Action::BgpShutdown),
        "bgp.enable" => read_params(params).map(Action::BgpEnable),
        _ => return None,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParams {}

fn read_params<T: DeserializeOwned>(params: Value) -> Result<T, ApiError> {
    serde_json::from_value(params)
        .map_err(|error| ApiError::new(code::INVALID_PARAMS, format!("params: {error}")))
}

fn query(params: Value) -> Result<ShowQuery, ApiError> {
    let query: ShowQuery = read_params(params)?;
    if (1..=MAX_ROWS).contains(&query.limit) {
        return Ok(query);
    }
    let message = format!("invalid limit {}: must be 1 to {MAX_ROWS}", query.limit);
    Err(ApiError::new(code::INVALID_PARAMS, message).field("limit"))
}

/// The response to one request with a result that is JSON already.
#[must_use]
pub fn response_text(id: &Value, result: Result<String, ApiError>) -> String {
    match result {
        Ok(result) => format!(r#"{{"id":{id},"jsonrpc":"2.0","result":{result}}}"#),
        Err(error) => response(id.clone(), Err(error)).to_string(),
    }
}

/// The response to one request.
#[must_use]
pub fn response(id: Value, result: Result<Value, ApiError>) -> Value {
    match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
    }
}

impl ConfigDiff {
    /// True when nothing differs.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.restart.is_empty()
    }
}
