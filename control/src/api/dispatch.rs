//! From one line to one line: parses the message, calls the daemon, builds the response. Does no
//! I/O.

use serde_json::{Value, json};

use super::action::Action;
use super::event::{MAX_SUBSCRIBERS, Subscription};
use super::message::{
    ApiError, Call, ConfigRequest, RpcMessage, RpcRequest, code, response, response_text,
};
use super::show::ShowRequest;
use crate::config::Change;

/// The operations that the daemon provides to its clients.
pub trait Handler {
    /// How far an answer of [`Self::show`] is that takes several calls.
    type Progress: Default + std::fmt::Debug;

    /// Applies changes in order, all or none.
    ///
    /// # Errors
    /// Why none was applied; `data.index` is the rejected one (see [`ApiError::from`] a
    /// `BatchError`).
    fn change(&mut self, changes: Vec<Change>) -> Result<(), ApiError>;

    /// Answers with a value of the type that [`ShowRequest`] documents, as JSON: large tables are
    /// not built as a [`Value`] first. Or with the reason for the refusal. `None`: part of the work
    /// is done, so that others can be served; must be called again with the same `progress`, which
    /// is the default at first.
    fn show(
        &mut self,
        request: &ShowRequest,
        progress: &mut Self::Progress,
    ) -> Option<Result<String, ApiError>>;

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

/// A request of `show` that is not answered yet.
#[derive(Debug)]
pub(super) struct PendingShow<P> {
    id: Option<Value>,
    request: ShowRequest,
    progress: P,
}

impl<P> PendingShow<P> {
    /// Does a part of the work.
    pub(super) fn resume(mut self, handler: &mut impl Handler<Progress = P>) -> Dispatched<P> {
        match handler.show(&self.request, &mut self.progress) {
            Some(result) => Dispatched::Done(self.id.map(|id| response_text(&id, result))),
            None => Dispatched::Pending(Box::new(self)),
        }
    }
}

/// What became of one line.
#[derive(Debug)]
pub(super) enum Dispatched<P> {
    /// It is handled, and this is the response. `None` when it needs none: it held notifications
    /// only.
    Done(Option<String>),
    /// It has to be resumed.
    Pending(Box<PendingShow<P>>),
}

/// Handles one line. `None` when it needs no response: it held notifications only.
pub fn dispatch(line: &[u8], handler: &mut impl Handler) -> Option<String> {
    let mut nothing = Subscription::NOTHING;
    let mut dispatched = dispatch_for(line, handler, &mut nothing, true);
    loop {
        match dispatched {
            Dispatched::Done(answer) => return answer,
            Dispatched::Pending(pending) => dispatched = pending.resume(handler),
        }
    }
}

/// As [`dispatch`], for a connection with the topics in `subscription`, which it may change if
/// `may_subscribe`.
pub(super) fn dispatch_for<P: Default>(
    line: &[u8],
    handler: &mut impl Handler<Progress = P>,
    subscription: &mut Subscription,
    may_subscribe: bool,
) -> Dispatched<P> {
    let answer = match RpcMessage::read(line) {
        Err(error) => Some(response(Value::Null, Err(error))),
        Ok(RpcMessage::Single(RpcRequest {
            id,
            call: Ok(Call::Show(request)),
        })) => {
            let pending = PendingShow {
                id,
                request,
                progress: P::default(),
            };
            return pending.resume(handler);
        }
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
    };
    Dispatched::Done(answer.map(|answer| answer.to_string()))
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
        // `dispatch_for` answers it, in several calls if need be.
        Call::Show(_) => Err(ApiError::refused(
            "a table can't be part of another request",
        )),
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
