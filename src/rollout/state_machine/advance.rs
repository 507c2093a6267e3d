use super::*;

/// What happens next by itself; `None` where nothing does. `now_ms`: Unix time.
pub fn advance(spec: &RolloutSpec, progress: &Progress, facts: &Facts, now_ms: u64) -> Option<Transition> {
    todo!("{spec:?}{progress:?}{facts:?}{now_ms}")
}

/// What a rollout that the journal holds does when the process has started again. `None`: it goes on where it was.
pub fn after_restart(spec: &RolloutSpec, progress: &Progress, clean_exit: bool, now_ms: u64) -> Option<Transition> {
    todo!("{spec:?}{progress:?}{clean_exit}{now_ms}")
}

/// The effects that put in force what a state demands, whatever was in force before: after a start of the process.
pub fn restore(spec: &RolloutSpec, progress: &Progress) -> Vec<Effect> {
    todo!("{spec:?}{progress:?}")
}
