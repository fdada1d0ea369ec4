//! Bugs that the simulator's own tests plant, to show that its checkers would find them. Outside
//! of tests the question is answered at compile time: no such bug is in a broker that anybody runs.

#[cfg(not(test))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

#[cfg(test)]
macro_rules! planted {
    ($bug:ident) => {
        $crate::sim::planted::is_planted($crate::sim::planted::Bug::$bug)
    };
}
