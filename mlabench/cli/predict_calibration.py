"""What is said on standard error of a calibration, so that the rows stay alone on standard output."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from mlabench.cases.case import Case
from mlabench.units import format_latency, format_number, format_percent

if TYPE_CHECKING:
    from mlabench.predict.calibrate import Calibration, RegimeError
    from mlabench.predict.efficiency import Efficiency


def tell_calibration(calibration: "Calibration", *, verbose: bool) -> None:
    """Say how far the fits are off in one line; `verbose` first says what was fitted, kernel by kernel."""
    for fit in calibration.fits.values() if verbose else ():
        _tell(f"{fit.contract}: mean error by regime: {_by_regime(fit.errors)}")
        for name, reached in fit.kernels.items():
            _tell(f"  {name}: {_reached(reached, fit.contract)}")
    few = ", ".join(f"{points} of {contract}" for contract, points in calibration.left_out.items())
    _tell(
        f"{calibration.run} calibrates {calibration.gpu}: mean error "
        f"{format_percent(calibration.mean_absolute_error, 1)} over {calibration.points} cases, each predicted from "
        f"the half that it is not in: {_by_regime(calibration.errors)}" + (f"; too few to fit: {few}" if few else "")
    )


def tell_nothing_fits(calibration: "Calibration", cases: Sequence[Case]) -> None:
    """Warn that the run tells no latency of any of the cases."""
    from mlabench.predict.calibrate import fitted_contract

    asked, layers = dict.fromkeys(map(fitted_contract, cases)), [name.endswith(" layer") for name in calibration.fits]
    mend = "; -a scope=layer asks for whole layers" if all(layers) else ""
    _tell(
        f"warning: {calibration.run} tells no latency of these cases, of {', '.join(asked)}: "
        f"it was fitted to {', '.join(calibration.fits)}{mend}"
    )


def _reached(reached: "Efficiency", contract: str) -> str:
    """An efficiency in words, without what no case of the contract tells."""
    expands, merges = "recompute" in contract, "recompute" not in contract and "prefill" not in contract
    merging = f", {format_latency(1000 * reached.merge_us_per_row)} a thousand merged rows" if merges else ""
    expanding = f", {format_percent(reached.expansion_share)} while expanding" if expands else ""
    return (
        f"{format_latency(reached.overhead_us)} a call{merging}, {format_percent(reached.bandwidth_share)} of the "
        f"bandwidth, {format_percent(reached.flops_share)} of the FLOP rate{expanding}, bend "
        f"{format_number(reached.sharpness)}"
    )


def _by_regime(errors: "Sequence[RegimeError]") -> str:
    return ", ".join(
        f"{error.regime} {format_percent(error.mean_absolute_error, 1)} of {error.points}" for error in errors
    )


def _tell(text: str) -> None:
    typer.echo(f"mlabench: {text}", err=True)
