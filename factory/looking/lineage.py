"""What became of each round, and of each pair, as SQL: who answered, who judged, what was trained from it, what was promoted.

The rule that must not break: nothing is kept for this. The views are over the tables and over the documents by which a run goes
on itself, so that they cannot say something else than the run does.
"""

from factory.looking.sql import empty_columns, escaped, literal
from factory.run import RunFolder
from schemas.tables import POLICY_TOKENS, PRICES, ROUNDS

_OUTCOME = "STRUCT(round BIGINT, reference VARCHAR, trained VARCHAR, promoted VARCHAR)[]"
_NOTES = "{notes: 'MAP(VARCHAR, VARCHAR)'}"
_PRICES = "{prices: 'MAP(VARCHAR, STRUCT(prompt DOUBLE, completion DOUBLE))'}"
_MODELS = "{provenance: 'STRUCT(models MAP(VARCHAR, VARCHAR))'}"

LINEAGE_SELECT = """
SELECT pairs.round, pairs.prompt_id, pairs.cause, pairs.chosen_id, pairs.rejected_id,
       chosen.model_digest AS chosen_by, rejected.model_digest AS rejected_by, judges, reference, trained, promoted
FROM pairs
JOIN rollouts AS chosen ON chosen.round = pairs.round AND chosen.rollout_id = pairs.chosen_id
JOIN rollouts AS rejected ON rejected.round = pairs.round AND rejected.rollout_id = pairs.rejected_id
LEFT JOIN rounds ON rounds.round = pairs.round
"""


def rounds_select(run: RunFolder) -> str:
    """A row for each round that has a manifest."""
    manifests = [each for each in run.rounds() if each.manifest_path.exists()]
    if not manifests:
        return f"SELECT {empty_columns(ROUNDS)} WHERE false"
    models = " UNION ALL ".join(_models(each) for each in manifests)
    judges = "map_from_entries(list_filter(map_entries(models), lambda entry: entry.key <> 'policy'))"
    return (
        f"SELECT models.round, models['policy'] AS policy, {judges} AS judges, reference, trained, promoted "
        f"FROM ({models}) AS models LEFT JOIN ({_outcomes(run)}) AS outcomes ON outcomes.round = models.round"
    )


def _models(run: RunFolder) -> str:
    path = literal(str(run.manifest_path.resolve()))
    return (
        f"SELECT {run.round}::BIGINT AS round, provenance.models AS models FROM read_json({path}, columns = {_MODELS})"
    )


def prices_select(run: RunFolder) -> str:
    """A row for each role that has a price in a round."""
    manifests = [each for each in run.rounds() if each.manifest_path.exists()]
    if not manifests:
        return f"SELECT {empty_columns(PRICES)} WHERE false"
    each = " UNION ALL ".join(_prices(one) for one in manifests)
    return (
        f"SELECT round, one.key AS role, one.value.prompt AS prompt, one.value.completion AS completion FROM ({each})"
    )


def _prices(run: RunFolder) -> str:
    path = literal(str(run.manifest_path.resolve()))
    return (
        f"SELECT {run.round}::BIGINT AS round, unnest(map_entries(prices)) AS one "
        f"FROM read_json({path}, columns = {_PRICES})"
    )


def policy_tokens_select(run: RunFolder) -> str:
    """A row for each round that has answers, from their records."""
    records = "round=*/_records/rollouts-*.json"
    if not any(run.root.glob(records)):
        return f"SELECT {empty_columns(POLICY_TOKENS)} WHERE false"
    pattern = literal(f"{escaped(run.root.resolve())}/{records}")
    counts = ", ".join(_counted(name) for name in ("prompt_tokens", "completion_tokens"))
    return (
        f"SELECT round::BIGINT AS round, {counts} FROM read_json({pattern}, columns = {_NOTES}, hive_partitioning = true) "
        "GROUP BY round"
    )


def _counted(name: str) -> str:
    note = f"notes['cost.{name}']::DOUBLE"
    return f"if(count({note}) = count(*), sum({note}), NULL)::BIGINT AS {name}"


def _outcomes(run: RunFolder) -> str:
    if not run.story_path.exists():
        return "SELECT NULL::BIGINT AS round, NULL::VARCHAR AS reference, NULL::VARCHAR AS trained, NULL::VARCHAR AS promoted"
    path = literal(str(run.story_path.resolve()))
    return (
        "SELECT one.round, one.reference, one.trained, one.promoted FROM (SELECT unnest(rounds) AS one "
        f"FROM read_json({path}, columns = {{rounds: '{_OUTCOME}'}}))"
    )
