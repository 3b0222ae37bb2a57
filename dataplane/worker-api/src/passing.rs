//! Bodies that a Worker passes on unread (`return fetch(url)`): the shard has moved one, and tells how it ended.

use isolate::{Scope, Value};

use crate::{
    core_ops::response_limit,
    event::{BodySource, Failure, FetchId, LogLevel, Passed, RequestId},
    state::Reply,
    worker::Worker,
};

/// For `dispatch.js`: why it ended early, or undefined.
fn why<'s>(scope: &mut Scope<'s, '_>, end: &Passed) -> Value<'s> {
    match end {
        Passed::Whole => scope.undefined(),
        Passed::Broken(text) => scope.string(text),
        Passed::TooLarge => scope.string("the response is too large"),
    }
}

impl Worker {
    pub(crate) fn response_passed(&mut self, id: RequestId, end: Passed) {
        let state = self.state_mut();
        let Some(request) = state.requests.get_mut(&id) else { return };
        let Reply::Passing(from) = request.reply else { return };
        match &end {
            Passed::TooLarge => response_limit(state, id),
            Passed::Whole | Passed::Broken(_) => {
                request.reply = Reply::Done;
                if let Passed::Broken(text) = &end {
                    request.failure = Some(Failure::Exception);
                    let text = format!("response body failed: {text}");
                    state.log(Some(id), LogLevel::Error, text);
                }
                state.ended.push(id);
            }
        }
        if let BodySource::Fetch(fetch) = from {
            self.state_mut().fetches.remove(&fetch);
        }
        self.turn(Some(id), |scope, entry| {
            let args = [scope.id(id.0), why(scope, &end)];
            let function = scope.open(&entry.response_passed);
            scope.call(function, &args)
        });
    }

    pub(crate) fn upload_passed(&mut self, fetch: FetchId, end: Passed) {
        let Some(request) = self.state_mut().fetches.get(&fetch).map(|open| open.request) else { return };
        self.turn(request, |scope, entry| {
            let args = [scope.id(fetch.0), why(scope, &end)];
            let function = scope.open(&entry.upload_passed);
            scope.call(function, &args)
        });
    }
}
