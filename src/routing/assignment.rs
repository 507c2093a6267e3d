//! Who is sent to which arm: the settings of it, and the decision.

use super::arm::Arm;
use super::dial::{BASIS_POINTS, Weights};
use super::split::{arm_of, bucket_of, hash};
use crate::inference::Attributes;

/// The header by which a client asks for an arm itself; like a force rule, and after those of the settings.
pub const ARM_HEADER: &str = "headgate-arm";

/// The header, and the request parameter, that says whose request it is: what sampling and most splits go by.
pub const KEY_HEADER: &str = "headgate-key";

/// How a split route's requests are divided. The first unit that a request has decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub units: Vec<Unit>,
    /// Looked at before the units, in order; a request that one of them matches is left out of the statistics.
    pub force: Vec<ForceRule>,
    /// Of the hash; one for each rollout, the same in all of its steps.
    pub salt: u64,
}

/// What is kept together on one arm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// Requests with the same value of this header (gRPC: metadata); the name in lower case.
    Header(String),
    /// Requests with the same value of this request parameter of the Open Inference Protocol.
    Param(String),
    /// Nothing: each request at random.
    Request,
}

/// Sends what matches to one arm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForceRule {
    /// Header or metadata name, in lower case.
    pub header: String,
    pub matches: Match,
    pub arm: Arm,
}

/// What a header's value must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    Exact(String),
    Prefix(String),
    Present,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Assigned(Assigned),
    /// The first unit that may match is a request parameter, and the body is not decoded yet.
    NeedsParameters,
}

/// A request's arm and how it came to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    pub arm: Arm,
    /// Hash of the sticky key; `None` for a request that was sent at random or by force.
    pub key: Option<u64>,
    /// Sent by a rule or its own wish: left out of the statistics.
    pub forced: bool,
    /// Whether it is within the share that is copied is read from these bits: the key's hash, or random ones.
    bits: u64,
}

impl Assigned {
    /// Whether this request is within a share of copies; for a key always the same answer under the same share.
    pub fn is_copied(&self, share_bp: u16) -> bool {
        // Turned by half, so that the copied keys are not those that the candidate gets first.
        !self.forced && bucket_of(self.bits.rotate_left(32)) < share_bp
    }
}

impl Assignment {
    /// The arm of a request. `parameters` are those of the request's body, `None` before it is decoded; `random` are 64
    /// random bits. An empty header or parameter is none: it would tie all who send it together.
    pub fn choose(
        &self,
        caller: &dyn Attributes,
        parameters: Option<&[(String, String)]>,
        weights: Weights,
        random: u64,
    ) -> Choice {
        if let Some(arm) = self.forced(caller) {
            return Choice::Assigned(Assigned { arm, key: None, forced: true, bits: random });
        }
        for unit in &self.units {
            let key = match unit {
                Unit::Header(name) => caller.get(name),
                Unit::Param(name) => match parameters {
                    None => return Choice::NeedsParameters,
                    Some(given) => given.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_bytes()),
                },
                Unit::Request => break,
            };
            if let Some(key) = key.filter(|key| !key.is_empty()) {
                let hash = hash(self.salt, key);
                let arm = arm_of(bucket_of(hash), weights);
                return Choice::Assigned(Assigned { arm, key: Some(hash), forced: false, bits: hash });
            }
        }
        let arm = arm_of((random % u64::from(BASIS_POINTS)) as u16, weights);
        Choice::Assigned(Assigned { arm, key: None, forced: false, bits: random })
    }

    fn forced(&self, caller: &dyn Attributes) -> Option<Arm> {
        let rule = self.force.iter().find(|rule| match (&rule.matches, caller.get(&rule.header)) {
            (_, None) => false,
            (Match::Present, Some(_)) => true,
            (Match::Exact(text), Some(value)) => value == text.as_bytes(),
            (Match::Prefix(text), Some(value)) => value.starts_with(text.as_bytes()),
        });
        rule.map(|rule| rule.arm).or_else(|| match caller.get(ARM_HEADER)? {
            b"stable" => Some(Arm::Stable),
            b"candidate" => Some(Arm::Candidate),
            b"control" => Some(Arm::Control),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::split;

    /// Headers of a test, by name.
    struct Headers(&'static [(&'static str, &'static str)]);

    impl Attributes for Headers {
        fn get(&self, name: &str) -> Option<&[u8]> {
            self.0.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_bytes())
        }
    }

    fn assignment(units: Vec<Unit>) -> Assignment {
        let rule = |matches, arm| ForceRule { header: "x-canary".to_owned(), matches, arm };
        let force =
            vec![rule(Match::Exact("1".to_owned()), Arm::Candidate), rule(Match::Prefix("no".to_owned()), Arm::Stable)];
        Assignment { units, force, salt: 7 }
    }

    fn by_key() -> Assignment {
        assignment(vec![Unit::Header("headgate-key".into()), Unit::Param("headgate-key".into()), Unit::Request])
    }

    const HALF: fn() -> Weights = || Weights::of_candidate(5000);

    fn choose(
        assignment: &Assignment,
        headers: &'static [(&str, &str)],
        parameters: Option<&[(&str, &str)]>,
    ) -> Choice {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let parameters: Option<Vec<_>> = parameters.map(|given| given.iter().map(owned).collect());
        assignment.choose(&Headers(headers), parameters.as_deref(), HALF(), 123)
    }

    fn assigned(choice: Choice) -> Assigned {
        match choice {
            Choice::Assigned(assigned) => assigned,
            Choice::NeedsParameters => panic!("it needs parameters"),
        }
    }

    #[test]
    fn the_first_unit_that_is_there_decides() {
        let by_header = assigned(choose(&by_key(), &[("headgate-key", "ann")], None));
        assert_eq!((by_header.key, by_header.forced), (Some(split::hash(7, b"ann")), false));
        assert_eq!(by_header.arm, arm_of(split::bucket(7, b"ann"), HALF()));
        let by_parameter = assigned(choose(&by_key(), &[], Some(&[("a", "b"), ("headgate-key", "ann")])));
        assert_eq!(by_parameter, by_header, "a header and a parameter of the same value are the same key");
        let both = assigned(choose(&by_key(), &[("headgate-key", "ann")], Some(&[("headgate-key", "bob")])));
        assert_eq!(both, by_header);
    }

    #[test]
    fn the_body_is_asked_for_only_where_it_may_decide() {
        assert_eq!(choose(&by_key(), &[], None), Choice::NeedsParameters);
        assert_eq!(choose(&by_key(), &[("headgate-key", "")], None), Choice::NeedsParameters, "empty is absent");
        let without = assignment(vec![Unit::Header("headgate-key".into()), Unit::Request]);
        assert_eq!(assigned(choose(&without, &[], None)).key, None);
        assert!(assigned(choose(&by_key(), &[("x-canary", "1")], None)).forced);
    }

    #[test]
    fn without_a_key_each_request_goes_at_random() {
        for units in [vec![], vec![Unit::Request], vec![Unit::Header("h".into())]] {
            let random = |bits| assigned(assignment(units.clone()).choose(&Headers(&[]), Some(&[]), HALF(), bits));
            assert_eq!((random(4_999).arm, random(5_000).arm), (Arm::Candidate, Arm::Control));
            assert_eq!((random(20_000).arm, random(0).key, random(0).forced), (Arm::Candidate, None, false));
        }
    }

    #[test]
    fn rules_force_an_arm_before_any_key() {
        for (headers, expected) in [
            (&[("x-canary", "1"), ("headgate-key", "ann")][..], Some(Arm::Candidate)),
            (&[("x-canary", "nope")], Some(Arm::Stable)),
            (&[("x-canary", "2")], None),
            (&[("headgate-arm", "candidate")], Some(Arm::Candidate)),
            (&[("headgate-arm", "control")], Some(Arm::Control)),
            (&[("headgate-arm", "shadow")], None),
            (&[("x-canary", "nope"), ("headgate-arm", "candidate")], Some(Arm::Stable)),
        ] {
            let choice = assigned(by_key().choose(&Headers(headers), Some(&[]), Weights::ALL_STABLE, 5));
            assert_eq!(choice.forced.then_some(choice.arm), expected, "{headers:?}");
            assert!(!choice.forced || (choice.key.is_none() && !choice.is_copied(10_000)), "{headers:?}");
        }
        let present = ForceRule { header: "x-probe".into(), matches: Match::Present, arm: Arm::Control };
        let assignment = Assignment { force: vec![present], ..by_key() };
        assert_eq!(assigned(choose(&assignment, &[("x-probe", "")], None)).arm, Arm::Control);
    }

    #[test]
    fn copied_keys_are_spread_over_all_arms() {
        let weights = Weights::of_candidate(2000);
        let mut copied = [0u32; 4];
        for key in 0..50_000u32 {
            let hash = split::hash(7, key.to_string().as_bytes());
            let assigned =
                Assigned { arm: arm_of(bucket_of(hash), weights), key: Some(hash), forced: false, bits: hash };
            copied[usize::from(assigned.arm.number())] += u32::from(assigned.is_copied(1000));
        }
        // Three sigma about 3,000 of stable's 30,000 and 1,000 of the others' 10,000.
        assert!((2844..=3156).contains(&copied[0]) && (910..=1090).contains(&copied[1]), "{copied:?}");
    }
}
