//! Replies to questions, from the zone and from upstream: what the resolver of a guest and that of the
//! host have in common.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::Name;
use ipnet::IpNet;

use super::answer::Answer;
use super::message::{Extended, Question};
use super::{Upstream, Zone, zone};
use crate::egress::SPECIAL_PURPOSE_RANGES;

/// The zone's answer, where the question is about it.
pub(super) fn from_zone(zone: &Zone, question: &Question) -> Option<Message> {
    let found = zone.find(question.query.name(), question.query.query_type())?;
    let mut reply = question.reply(found.code);
    reply.metadata.authoritative = true;
    reply.add_answers(found.answers);
    reply.add_authorities(found.authorities);
    Some(reply)
}

/// Which addresses there are in a range.
enum Places {
    /// Only those that are not public.
    Special,
    /// Both kinds.
    Both,
    /// Only public ones.
    Public,
}

fn places(range: IpNet) -> Places {
    let special = || SPECIAL_PURPOSE_RANGES.iter().map(|(special, _)| special);
    if special().any(|special| special.contains(&range)) {
        Places::Special
    } else if special().any(|special| range.contains(special)) {
        Places::Both
    } else {
        Places::Public
    }
}

/// The answer to a question about an address that is not public, or a range with such addresses: the host's
/// network is not asked what it calls them.
pub(super) fn of_a_special_range(question: &Question) -> Option<Message> {
    match zone::reverse_range(question.query.name()).map(places)? {
        Places::Special => Some(question.reply(ResponseCode::NXDomain)),
        // There is such a name: a guest that takes it for missing would ask for none below it.
        Places::Both => Some(question.reply(ResponseCode::NoError)),
        Places::Public => None,
    }
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
