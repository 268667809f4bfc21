//! From one line to one line: reads the message, asks the daemon, writes the response. No sockets here.

use serde_json::{Value, json};

use super::action::Action;
use super::event::{MAX_SUBSCRIBERS, Subscription};
use super::message::{ApiError, Call, ConfigRequest, RpcMessage, RpcRequest, code, response};
use super::show::ShowRequest;
use crate::config::Change;

/// What the daemon does for its clients.
pub trait Handler {
    /// Applies changes in order, all or none.
    ///
    /// # Errors
    /// Why none was applied; `data.index` says which one was refused ([`ApiError::from`] a `BatchError` does).
    fn change(&mut self, changes: Vec<Change>) -> Result<(), ApiError>;

    /// Answers with a value of the type that [`ShowRequest`] names.
    ///
    /// # Errors
    /// Why there is no answer.
    fn show(&mut self, request: &ShowRequest) -> Result<Value, ApiError>;

    /// Answers with a value of the type that [`ConfigRequest`] names.
    ///
    /// # Errors
    /// Why it was not done.
    fn config(&mut self, request: &ConfigRequest) -> Result<Value, ApiError>;

    /// Does something once. Answers with a value of the type that [`Action`] names.
    ///
    /// # Errors
    /// Why it was not done.
    fn act(&mut self, action: &Action) -> Result<Value, ApiError>;
}

/// Handles one line. `None` when it takes no response: it held notifications only.
pub fn dispatch(line: &[u8], handler: &mut impl Handler) -> Option<Value> {
    let mut nothing = Subscription::NOTHING;
    dispatch_for(line, handler, &mut nothing, true)
}

/// As [`dispatch`], for a connection that gets the events that `subscription` says, and may ask for some if
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
                        "{MAX_SUBSCRIBERS} clients watch events, no more are taken, so that commands still find a \
                         place; end one, or try again later"
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
            // Not part of a batch, so there is no place in it to name.
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

/// All changes of a batch are one change; one that can't be read refuses them all.
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
                    "a batch is one change and holds only changes; send this request alone";
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
        Err(error) => Err(blame(error, index)),
    };
    let ids = ids.into_iter().enumerate();
    let answers: Vec<_> = ids
        .filter_map(|(index, id)| Some(response(id?, answer(index))))
        .collect();
    (!answers.is_empty()).then_some(Value::Array(answers))
}

/// The error for request `index` of a batch that `error` refused.
fn blame(error: &ApiError, index: usize) -> ApiError {
    match error.data.as_ref().and_then(|data| data.index) {
        Some(wrong) if wrong != index => {
            // The wrong one's own answer says why: repeated in each, the answer could outgrow every bound.
            let message = format!("not applied: request {wrong} of the batch was refused");
            ApiError {
                code: code::REFUSED,
                message,
                data: error.data.clone(),
            }
        }
        _ => error.clone(),
    }
}
