//! Several questions in one system call.

use std::slice;

use netlink_packet_core::{NLM_F_DUMP, NetlinkDeserializable};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

use super::{
    BUFFER, Rtnl, RtnlError,
    answer::{Kind, Verdict},
    steady,
};

/// One question of several.
#[derive(Debug)]
pub(in crate::sync) struct Question {
    /// What it asks for, for an error.
    pub what: &'static str,
    /// The message.
    pub message: RouteNetlinkMessage,
    /// Whether it asks for all of a kind; else for one object.
    pub dump: bool,
}

/// What came of a question until now.
struct Pending<A> {
    found: Vec<A>,
    is_torn: bool,
    end: Option<Verdict>,
}

impl Rtnl {
    /// Like [`Rtnl::get_as`] for each of the questions, which are sent as one datagram; but a dump
    /// that the kernel ends with an error is a refusal, not an end.
    ///
    /// A socket has one dump at a time. The kernel ends one that fits a single datagram while it
    /// works on the request; where it doesn't (some kinds before 6.9), the next one is refused
    /// (`EBUSY`, `__netlink_dump_start()`) and asked for again, alone. So a short list comes before a
    /// long one.
    ///
    /// # Errors
    /// Only where the socket failed; each question has its own refusal.
    pub(in crate::sync) fn get_each<A: NetlinkDeserializable>(
        &mut self,
        questions: &[Question],
    ) -> Result<Vec<Result<Vec<A>, RtnlError>>, RtnlError> {
        if self.buffer.len() < BUFFER {
            self.buffer = vec![0; BUFFER];
        }
        let answers = questions.iter().zip(self.ask_each(questions)?);
        let answers = answers.map(|(question, answer)| match answer {
            Ok(Some(found)) => Ok(found),
            Ok(None) => steady(question.what, || {
                let again = self.ask_each(slice::from_ref(question))?.pop();
                again.unwrap_or(Ok(None))
            }),
            Err(error) => Err(error),
        });
        Ok(answers.collect())
    }

    /// Like [`Rtnl::get_each`] for one question.
    ///
    /// # Errors
    /// The kernel's refusal, or an answer that can't be read.
    pub(in crate::sync) fn get_one<A: NetlinkDeserializable>(
        &mut self,
        question: Question,
    ) -> Result<Vec<A>, RtnlError> {
        let answer = self.get_each(&[question])?.pop();
        answer.unwrap_or_else(|| Ok(Vec::new()))
    }

    /// Asks once; none where it has to be asked again.
    #[expect(
        clippy::type_complexity,
        reason = "the answers of `ask`, refused one by one"
    )]
    fn ask_each<A: NetlinkDeserializable>(
        &mut self,
        questions: &[Question],
    ) -> Result<Vec<Result<Option<Vec<A>>, RtnlError>>, RtnlError> {
        let Some(first) = questions.first() else {
            return Ok(Vec::new());
        };
        let start = self.sequence + 1;
        let mut bytes = Vec::new();
        for question in questions {
            // One object ends its answer itself; an acknowledgement would cost another read.
            let flags = if question.dump { NLM_F_DUMP } else { 0 };
            self.append(&mut bytes, question.message.clone(), flags);
        }
        self.send(&bytes, first.what)?;
        let all = self.hear(start, questions)?;
        let answers = questions
            .iter()
            .zip(all)
            .map(|(question, pending)| match pending.end {
                Some(Err((Errno::EBUSY, _))) if question.dump => Ok(None),
                Some(Err((errno, reason))) => Err(RtnlError::Refused {
                    what: question.what.to_owned(),
                    errno,
                    reason,
                }),
                _ => Ok((!pending.is_torn).then_some(pending.found)),
            });
        Ok(answers.collect())
    }

    /// Reads until every question has its answer. Their messages are numbered from `start`.
    fn hear<A: NetlinkDeserializable>(
        &mut self,
        start: u32,
        questions: &[Question],
    ) -> Result<Vec<Pending<A>>, RtnlError> {
        let mut all = Vec::from_iter(questions.iter().map(|_| Pending {
            found: Vec::new(),
            is_torn: false,
            end: None,
        }));
        let mut open = questions.len();
        while open > 0 {
            for answer in self.receive(questions[0].what)? {
                let at = answer.sequence.checked_sub(start);
                let at = at.and_then(|at| usize::try_from(at).ok());
                let known = at.and_then(|at| Some((questions.get(at)?, all.get_mut(at)?)));
                let Some((question, pending)) = known else {
                    continue; // an answer to an earlier call that gave up
                };
                pending.is_torn |= answer.is_torn;
                let end = match answer.kind {
                    Kind::Object(object) => {
                        pending.found.push(*object);
                        (!question.dump).then_some(Ok(()))
                    }
                    Kind::Done(verdict) | Kind::Ack(verdict) => Some(verdict),
                };
                if end.is_some() && pending.end.is_none() {
                    pending.end = end;
                    open -= 1;
                }
            }
        }
        Ok(all)
    }
}
