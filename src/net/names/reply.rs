//! Replies to questions, from the zone and from upstream: what the resolver of a guest and that of the
//! host have in common.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::Name;

use super::answer::Answer;
use super::message::{Extended, Question};
use super::{Upstream, Zone};

/// The zone's answer, where the question is about it.
pub(super) fn from_zone(zone: &Zone, question: &Question) -> Option<Message> {
    let found = zone.find(question.query.name(), question.query.query_type())?;
    let mut reply = question.reply(found.code);
    reply.metadata.authoritative = true;
    reply.add_answers(found.answers);
    reply.add_authorities(found.authorities);
    Some(reply)
}

/// Asks upstream: an empty reply with the right code, and what goes into it. Failures are the reply.
pub(super) async fn ask(
    upstream: &Upstream,
    question: &Question,
    name: &Name,
) -> Result<(Message, Answer), Box<Message>> {
    let kind = question.query.query_type();
    let unreachable = Some(Extended::NoReachableAuthority);
    let mut message = upstream.ask(name, kind).await.map_err(|error| {
        tracing::debug!(%error, "a question failed upstream");
        Box::new(question.fails(ResponseCode::ServFail, unreachable))
    })?;
    let code = message.metadata.response_code;
    if ![ResponseCode::NoError, ResponseCode::NXDomain].contains(&code) {
        return Err(Box::new(question.fails(ResponseCode::ServFail, unreachable)));
    }
    let mut reply = question.reply(code);
    reply.metadata.truncation = message.metadata.truncation;
    Ok((reply, Answer::of(&mut message, name, kind)))
}

/// Puts an answer into its reply.
pub(super) fn fill(reply: &mut Message, answer: Answer) {
    reply.add_answers(answer.chain);
    reply.add_answers(answer.records);
    reply.add_authorities(answer.nothing);
}
