//! From one line to one line: parses the message, calls the daemon, builds the response. Does no
//! I/O.

use serde_json::{Value, json};

use super::action::Action;
use super::event::{MAX_SUBSCRIBERS, Subscription};
use super::message::{ApiError, Call, ConfigRequest, RpcMessage, RpcRequest, code, response};
use super::show::ShowRequest;
use crate::config::Change;

/// The operations that the daemon provides to its clients.
pub trait Handler {
    /// Applies changes in order, all or none.
    ///
    /// # Errors
    /// Why none was applied; `data.index` is the rejected one (see [`ApiError::from`] a
    /// `BatchError`).
    fn change(&mut self, changes: Vec<Change>) -> Result<(), ApiError>;

    /// Answers with a value of the type that [`ShowRequest`] documents.
    ///
    /// # Errors
    /// The reason for the refusal.
    fn show(&mut self, request: &ShowRequest) -> Result<Value, ApiError>;

    /// Answers with a value of the type that [`ConfigRequest`] documents.
    ///
    /// # Errors
    /// The reason for the refusal.
    fn config(&mut self, request: &ConfigRequest) -> Result<Value, ApiError>;

    /// Performs an action. Answers with a value of the type that [`Action`] documents.
    ///
    /// # Errors
    /// The reason for the refusal.
    fn act(&mut self, action: &Action) -> Result<Value, ApiError>;
}

/// Handles one line. `None` when it needs no response: it held notifications only.
pub fn dispatch(line: &[u8], handler: &mut impl Handler) -> Option<Value> {
    let mut nothing = Subscription::NOTHING;
    dispatch_for(line, handler, &mut nothing, true)
}

/// As [`dispatch`], for a connection with the topics in `subscription`, which it may change if
/// `may_subscribe`.
pub(super) fn dispatch_for(
    line: &[u8],
    handler: &mut impl Handler,
    subscription: &mut Subscription,
    may_subscribe: bool,
) -> Option<Value> {
    match RpcMessage::read(line) {
        Err(error) => Some(response(Value::Null, Err(error))),
        Ok(RpcMessage::Single(request)) => {
            let result = request.call.and_then(|call| match call {
                Call::Subscribe(wanted) if !may_subscribe && !wanted.topics.is_empty() => {
                    Err(ApiError::refused(format!(
                        "too many subscribers: at most {MAX_SUBSCRIBERS} clients may watch \
                         events, so that \
                         commands can still connect; end one, or try again later"
                    )))
                }
                Call::Subscribe(wanted) => {
                    *subscription = wanted;
                    Ok(json!({}))
                }
                call => one(call, handler),
            });
            request.id.map(|id| response(id, result))
        }
        Ok(RpcMessage::Batch(requests)) => batch(requests, handler),
    }
}

fn one(call: Call, handler: &mut impl Handler) -> Result<Value, ApiError> {
    match call {
        Call::Change(change) => {
            // Not part of a batch: the error has no index.
            let single = |mut error: ApiError| {
                if let Some(data) = &mut error.data {
                    data.index = None;
                }
                error
            };
            handler
                .change(vec![change])
                .map(|()| json!({}))
                .map_err(single)
        }
        Call::Show(request) => handler.show(&request),
        Call::Config(request) => handler.config(&request),
        Call::Act(action) => handler.act(&action),
        Call::Subscribe(_) => Err(ApiError::refused("only a connection can subscribe")),
    }
}

/// A batch is one transaction; one invalid request rejects them all.
fn batch(requests: Vec<RpcRequest>, handler: &mut impl Handler) -> Option<Value> {
    let mut ids = Vec::with_capacity(requests.len());
    let mut changes = Vec::with_capacity(requests.len());
    let mut wrong = None;
    for (index, request) in requests.into_iter().enumerate() {
        ids.push(request.id);
        match request.call {
            Ok(Call::Change(change)) => changes.push(change),
            Ok(_) => {
                let message =
                    "a batch is one transaction and holds only changes; send this request alone";
                wrong = wrong.or(Some(
                    ApiError::new(code::INVALID_REQUEST, message).at(index),
                ));
            }
            Err(error) => wrong = wrong.or(Some(error.at(index))),
        }
    }
    let result = wrong.map_or_else(|| handler.change(changes), Err);
    let answer = |index: usize| match &result {
        Ok(()) => Ok(json!({})),
        Err(error) => Err(error_for(error, index)),
    };
    let ids = ids.into_iter().enumerate();
    let answers: Vec<_> = ids
        .filter_map(|(index, id)| Some(response(id?, answer(index))))
        .collect();
    (!answers.is_empty()).then_some(Value::Array(answers))
}

/// The error for request `index` of a batch that was rejected with `error`.
fn error_for(error: &ApiError, index: usize) -> ApiError {
    match error.data.as_ref().and_then(|data| data.index) {
        Some(wrong) if wrong != index => {
            // Only the rejected request gets the message: repeated for each, the answer could
            // exceed every limit.
            let message = format!("not applied: request {wrong} of the batch was rejected");
            ApiError {
                code: code::REFUSED,
                message,
                data: error.data.clone(),
            }
        }
        _ => error.clone(),
    }
}
