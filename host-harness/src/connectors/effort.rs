//! What a component's functions demand of the compiler.
//!
//! What: for every place where control may go more than one way, the compiler keeps an account of each value that may
//! be needed later: a function's locals and what is on its stack. The number of places times the number of values is
//! its effort; it is limited for one function and for all of a component.
//! Why before compiling: a few hundred kilobytes of loops over twenty thousand locals take the compiler gigabytes, and a
//! compiler that runs cannot be stopped. One unit was measured to take 20 to 50 bytes and less than a microsecond.
//! Not guaranteed: that two functions of the same effort take the same.

use super::error::LoadError;
use wasmparser::{
    FuncValidator, FuncValidatorAllocations, Operator, ValidPayload, Validator, ValidatorResources, WasmFeatures,
};
use wasmparser::{FunctionBody, OperatorsReader, Parser};

/// Most effort of one function: some 200 MB, for each CPU of the host. A test sees to it that the
/// largest function of the InsightIDR connector stays below a quarter.
const FUNCTION: u64 = 5_000_000;

/// Most effort of all functions of a component together.
const COMPONENT: u64 = 100_000_000;

/// What of the limits is said.
const UNIT: &str = " units";

/// Compares what the functions of a component demand with the limits.
///
/// # Errors
/// When one function, or all together, demand too much; [`LoadError::Corrupt`] when they are not valid.
pub(super) fn check(bytes: &[u8]) -> Result<(), LoadError> {
    let (largest, all) = measure(bytes).map_err(|error| LoadError::Corrupt { why: error.to_string() })?;
    for (effort, limit, what) in [
        (largest, FUNCTION, "work for the compiler in one function, its branches times its variables; split it"),
        (all, COMPONENT, "work for the compiler in all functions, their branches times their variables; split them"),
    ] {
        if effort > limit {
            return Err(LoadError::TooDemanding {
                what,
                unit: UNIT,
                limit: usize::try_from(limit).unwrap_or(usize::MAX),
            });
        }
    }
    Ok(())
}

/// The effort of the function that needs most, and of all. Stops where a limit is passed.
fn measure(bytes: &[u8]) -> Result<(u64, u64), wasmparser::BinaryReaderError> {
    // All that any engine takes; the compiler says no to what it does not.
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let mut allocations = FuncValidatorAllocations::default();
    let (mut largest, mut all) = (0_u64, 0_u64);
    for payload in Parser::new(0).parse_all(bytes) {
        if let ValidPayload::Func(function, body) = validator.payload(&payload?)? {
            let mut function = function.into_validator(allocations);
            let effort = of_function(&mut function, &body)?;
            allocations = function.into_allocations();
            largest = largest.max(effort);
            all = all.saturating_add(effort);
            if largest > FUNCTION || all > COMPONENT {
                break;
            }
        }
    }
    Ok((largest, all))
}

/// The effort of a function. Stops where the limit is passed.
fn of_function(
    validator: &mut FuncValidator<ValidatorResources>,
    body: &FunctionBody<'_>,
) -> Result<u64, wasmparser::BinaryReaderError> {
    let mut reader = body.get_binary_reader();
    validator.read_locals(&mut reader)?;
    let mut reader = OperatorsReader::new(reader);
    let locals = u64::from(validator.len_locals());
    let mut effort = locals;
    while !reader.eof() && effort <= FUNCTION {
        let at = reader.original_position();
        let operator = reader.read()?;
        validator.op(at, &operator)?;
        let ways = match &operator {
            Operator::Loop { .. }
            | Operator::Block { .. }
            | Operator::If { .. }
            | Operator::Else
            | Operator::Br { .. }
            | Operator::BrIf { .. }
            | Operator::Call { .. }
            | Operator::CallIndirect { .. }
            | Operator::CallRef { .. }
            | Operator::TryTable { .. }
            | Operator::BrOnNull { .. }
            | Operator::BrOnNonNull { .. } => 1,
            Operator::BrTable { targets } => u64::from(targets.len()).saturating_add(1),
            _ => 0,
        };
        let values = locals.saturating_add(u64::from(validator.operand_stack_height()));
        effort = effort.saturating_add(ways.saturating_mul(values));
    }
    Ok(effort)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::component;
    use super::*;

    /// The verdict on a component of one function with so many locals and, `times` over, this.
    fn verdict(locals: usize, part: &str, times: usize) -> Result<(), LoadError> {
        let text = format!("(component (core module (func {} {})))", "(local i32)".repeat(locals), part.repeat(times));
        check(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn a_function_that_would_take_the_compiler_gigabytes_is_refused_before_it_is_compiled() {
        let changing = "(loop (local.set 1 (i32.mul (local.get 0) (local.get 1))) (br_if 0 (local.get 1)))";
        let table = format!("(block (br_table {} (local.get 0)))", "0 ".repeat(1000));
        for (locals, part, times) in [(20_000, changing, 2_000), (2_000, changing, 2_000), (200, table.as_str(), 100)] {
            let error = verdict(locals, part, times).unwrap_err();
            assert_eq!(error.code(), "component-too-demanding");
            assert!(error.to_string().contains("split it"), "{error}");
        }
        // What is on the stack counts like a local.
        let stack = format!("{}{}{}", "i32.const 1 ".repeat(3_000), "(block) ".repeat(3_000), "drop ".repeat(3_000));
        assert!(verdict(0, &stack, 1).is_err());
        // Ordinary functions are far from it.
        assert!(verdict(300, changing, 2_000).is_ok());
        assert!(verdict(20_000, "nop ", 10_000).is_ok());
    }

    #[test]
    fn many_such_functions_are_too_many_together() {
        let function = format!(
            "(func {} {})",
            "(local i32)".repeat(2_000),
            "(loop (local.set 1 (i32.const 1)) (br_if 0 (local.get 1)))".repeat(1_000)
        );
        let component = |count: usize| wat::parse_str(format!("(component (core module {}))", function.repeat(count)));
        assert!(check(&component(2).unwrap()).is_ok());
        let error = check(&component(30).unwrap()).unwrap_err();
        assert!(error.to_string().contains("all functions"), "{error}");
    }

    #[test]
    fn connectors_are_far_below_the_limits() {
        assert!(check(&component()).is_ok());
        // The one of this repository, where it has been built.
        if let Some(path) = std::env::var_os("CONNECTOR") {
            let (largest, all) = measure(&std::fs::read(path).unwrap()).unwrap();
            assert!(largest < FUNCTION / 4 && all < COMPONENT / 4, "{largest} and {all}");
        }
    }
}
