//! What happens inside one step of a [`World`]: the machines' actions are performed, as the driver
//! and the recovery's performer do, the store serves, and its answers are heard.

use super::super::life;
use super::super::recovery::{self, Outcome};
use super::super::words::*;
use super::broken::Breakage;
use super::bucket::{Object, UploadNo};
use super::checks::{self, Broken};
use super::request::{Ask, Reply, Request};
use super::world::{Client, Machine, Meter, Outcomes, Setup, World};

impl World {
    pub fn live(&mut self, event: life::Event, setup: &Setup, meter: &mut Meter) -> Outcomes {
        let Machine::Living(life) = &mut self.machine else {
            return Ok(());
        };
        if setup.breakage == Some(Breakage::ForgetsStrays) && event == life::Event::Strayed {
            return Ok(());
        }
        if setup.breakage == Some(Breakage::TrustsTheFirstAbort)
            && event == life::Event::AbortAnswered(AbortAnswer::Done)
        {
            self.write(Record::End(Ending::Aborted));
            self.forget();
            return Ok(());
        }
        for action in life.step(event) {
            self.perform(action, setup, meter)?;
        }
        Ok(())
    }

    pub fn recover(
        &mut self,
        event: recovery::Event,
        setup: &Setup,
        meter: &mut Meter,
    ) -> Outcomes {
        let Machine::Recovering(recovery) = &mut self.machine else {
            return Ok(());
        };
        for action in recovery.step(event) {
            self.perform_recovery(action, setup, meter)?;
        }
        Ok(())
    }

    pub fn recorded(
        &mut self,
        record: Record,
        ok: bool,
        setup: &Setup,
        meter: &mut Meter,
    ) -> Outcomes {
        let (living, recovering) = match ok {
            true => (
                life::Event::Recorded(record),
                recovery::Event::Recorded(record),
            ),
            false => (
                life::Event::RecordFailed(record),
                recovery::Event::RecordFailed(record),
            ),
        };
        self.either(living, recovering, setup, meter)
    }

    /// The performer of a living upload: what the driver does.
    fn perform(&mut self, action: life::Action, setup: &Setup, meter: &mut Meter) -> Outcomes {
        if let Some(event) = Breakage::instead_of(setup.breakage, action, &mut self.witness) {
            if let life::Action::Record(record) = action {
                self.write(record);
            }
            return self.live(event, setup, meter);
        }
        match action {
            life::Action::Record(record) => self.record(record, setup),
            life::Action::Create => self.send(Ask::Create, meter)?,
            life::Action::FindUpload => self.send(Ask::Find, meter)?,
            life::Action::SendPart(number) => {
                checks::sends_part(self)?;
                let version = self.client.sealed[number as usize - 1];
                self.send(Ask::Part(self.upload(), number as u8, version), meter)?;
            }
            life::Action::Complete => {
                checks::sends_complete(self)?;
                let mut parts = self.client.receipts;
                if setup.breakage == Some(Breakage::LeavesOutAPart) {
                    parts[self.writer.sealed as usize - 1] = 0;
                }
                let ask = Ask::Complete {
                    upload: self.upload(),
                    parts,
                    conditional: setup.on_conflict_fail,
                    by_recovery: false,
                };
                self.send(ask, meter)?;
            }
            life::Action::CheckToken => self.send(Ask::Token, meter)?,
            life::Action::SendAbort => self.send(Ask::Abort(self.upload()), meter)?,
            life::Action::ListParts => self.send(Ask::List(self.upload()), meter)?,
            life::Action::Pause(tries) => self.pause_for(tries, setup),
            life::Action::Report(verdict) => {
                checks::tells(self, verdict)?;
                self.writer.told = Some(verdict);
                meter.told[verdict as usize] += 1;
                if setup.breakage == Some(Breakage::TellsTwice) {
                    checks::tells(self, verdict)?;
                }
            }
            life::Action::Over => self.over()?,
        }
        Ok(())
    }

    pub fn perform_recovery(
        &mut self,
        action: recovery::Action,
        setup: &Setup,
        meter: &mut Meter,
    ) -> Outcomes {
        if let Some(event) = Breakage::instead_of_recovery(setup.breakage, action) {
            return self.recover(event, setup, meter);
        }
        match action {
            recovery::Action::FindUpload => self.send(Ask::Find, meter)?,
            recovery::Action::CheckBase => self.send(Ask::Base, meter)?,
            recovery::Action::Complete => {
                let ask = Ask::Complete {
                    upload: self.upload(),
                    parts: self.client.receipts,
                    conditional: true,
                    by_recovery: true,
                };
                self.send(ask, meter)?;
            }
            recovery::Action::CheckToken => self.send(Ask::Token, meter)?,
            recovery::Action::SendAbort => self.send(Ask::Abort(self.upload()), meter)?,
            recovery::Action::ListParts => self.send(Ask::List(self.upload()), meter)?,
            recovery::Action::Record(record) => self.record(record, setup),
            recovery::Action::Pause(tries) => self.pause_for(tries, setup),
            recovery::Action::Over(mut outcome) => {
                if setup.breakage == Some(Breakage::SecondRecoverySaysOtherwise)
                    && self.witness.ended == Some(Ending::Committed)
                {
                    outcome = Outcome::Ended(Ending::Lost);
                }
                checks::recovered(self, outcome)?;
                self.witness.recovered(outcome);
                meter.recovered[match outcome {
                    Outcome::Ended(ending) => ending as usize,
                    Outcome::Kept => 3,
                }] += 1;
                self.over()?;
            }
        }
        Ok(())
    }

    fn over(&mut self) -> Outcomes {
        checks::over(self)?;
        self.machine = Machine::Idle;
        self.client = Client::default();
        Ok(())
    }

    fn pause_for(&mut self, tries: u32, setup: &Setup) {
        self.pause = Some(match setup.breakage {
            Some(Breakage::DoesNotSettle) => 1,
            _ => tries,
        });
        if setup.breakage == Some(Breakage::SleepsForEver) {
            self.pause = None;
        }
    }

    pub fn record(&mut self, record: Record, setup: &Setup) {
        if setup.breakage == Some(Breakage::ForgetsEnd) && matches!(record, Record::End(_)) {
            return;
        }
        self.write(record);
    }

    pub fn write(&mut self, record: Record) {
        self.witness.begun = true;
        // A rewritten part's old receipt is never committed: `Life` waits for the new one.
        self.disk
            .append(record, self.client.upload, self.client.receipts);
    }

    fn upload(&self) -> UploadNo {
        self.client.upload.expect("the upload's id is known")
    }

    fn send(&mut self, ask: Ask, meter: &mut Meter) -> Outcomes {
        meter.requests += 1;
        if let Ask::Abort(upload) = ask {
            checks::sends_abort(self, upload)?;
        }
        self.requests.push(Request {
            ask,
            reply: None,
            strayed: false,
        });
        self.requests.sort_unstable();
        Ok(())
    }

    /// The store does what it is asked, `late` when nobody waits for it any more.
    pub fn serve(&mut self, ask: Ask, late: bool, setup: &Setup) -> Result<Reply, Broken> {
        let dialect = &setup.dialect;
        Ok(match ask {
            Ask::Create => Reply::Created(Answer::Done, Some(self.bucket.create())),
            Ask::Find => {
                let lax = setup.breakage == Some(Breakage::TakesAnyUpload);
                match self.bucket.find(lax) {
                    Some(upload) => Reply::Found(Search::Ours, Some(upload)),
                    None => Reply::Found(Search::Nothing, None),
                }
            }
            Ask::Part(upload, number, version) => {
                let answer = self.bucket.put_part(upload, number, version, dialect);
                Reply::Part(number, version, answer)
            }
            Ask::Complete {
                upload,
                parts,
                conditional,
                by_recovery,
            } => {
                let before = self.bucket.object;
                let (completion, published) =
                    self.bucket.complete(upload, &parts, conditional, dialect);
                if published {
                    checks::publishes(self, &parts, before, by_recovery && !late)?;
                    self.witness.published = true;
                    self.witness.overwritten = false;
                }
                Reply::Completed(completion)
            }
            Ask::Token => Reply::Token(match self.bucket.object {
                Object::Ours => Token::Ours,
                _ => Token::NotOurs,
            }),
            Ask::Base => {
                let base = self.bucket.compare();
                self.witness.looks(base);
                Reply::Base(base)
            }
            Ask::Abort(upload) => Reply::Abort(self.bucket.abort(upload)),
            Ask::List(upload) => Reply::List(self.bucket.list(upload)),
        })
    }

    pub fn hear(&mut self, reply: Reply, setup: &Setup, meter: &mut Meter) -> Outcomes {
        let living = self.is_living();
        match (living, reply) {
            (true, Reply::Created(answer, upload)) => {
                self.client.upload = upload.or(self.client.upload);
                self.live(life::Event::Created(answer), setup, meter)
            }
            (true, Reply::Part(number, version, answer)) => {
                if answer == PartAnswer::Stored {
                    self.client.receipts[number as usize - 1] = version;
                }
                let event = life::Event::PartAnswered(number.into(), answer);
                self.live(event, setup, meter)
            }
            (_, Reply::Found(search, upload)) => {
                self.client.upload = upload.or(self.client.upload);
                let recovering = recovery::Event::Found(search);
                self.either(life::Event::Found(search), recovering, setup, meter)
            }
            (_, Reply::Completed(answer)) => {
                let recovering = recovery::Event::Completed(answer);
                self.either(life::Event::Completed(answer), recovering, setup, meter)
            }
            (_, Reply::Token(token)) => {
                let recovering = recovery::Event::TokenSeen(token);
                self.either(life::Event::TokenSeen(token), recovering, setup, meter)
            }
            (_, Reply::Abort(answer)) => {
                let recovering = recovery::Event::AbortAnswered(answer);
                self.either(life::Event::AbortAnswered(answer), recovering, setup, meter)
            }
            (_, Reply::List(listing)) => {
                let recovering = recovery::Event::PartsListed(listing);
                self.either(life::Event::PartsListed(listing), recovering, setup, meter)
            }
            (false, Reply::Base(base)) => {
                self.recover(recovery::Event::BaseSeen(base), setup, meter)
            }
            (_, reply) => unreachable!("{reply:?} for a machine that did not ask"),
        }
    }

    pub fn either(
        &mut self,
        living: life::Event,
        recovering: recovery::Event,
        setup: &Setup,
        meter: &mut Meter,
    ) -> Outcomes {
        match self.machine {
            Machine::Living(_) => self.live(living, setup, meter),
            _ => self.recover(recovering, setup, meter),
        }
    }
}
