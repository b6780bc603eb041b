use round::{Effect, Evaluation, Event};

use crate::support::*;

#[test]
fn publishes() {
    let mut run = Run::aggregated(evaluated_by(Evaluation::Central));
    run.ignores(Event::EvaluatedCentrally { round: 2 });
    assert_eq!(run.take(Event::EvaluatedCentrally { round: 1 }), [Effect::Publish { round: 1 }]);
    run.ignores(Event::EvaluatedCentrally { round: 1 });
}

#[test]
fn was_not_asked_for() {
    let event = Event::EvaluatedCentrally { round: 1 };
    Run::aggregated(evaluated_by(Evaluation::Workers)).ignores(event.clone());
    Run::aggregated(plan()).ignores(event.clone());
    Run::aggregating(evaluated_by(Evaluation::Central)).ignores(event);
}
