"""The ten questions that README.md asks of a run, each as one query.

The rule that must not break: they are asked of tables and views as everybody has them, so that who copies one gets an answer.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    words: str
    sql: str


QUESTIONS = (
    Question(
        "Where did my prompts go?",
        "SELECT step, sum(prompts) AS prompts FROM funnel GROUP BY step ORDER BY prompts DESC, step",
    ),
    Question(
        "Which kind of prompt makes the model loop?",
        """SELECT source, count(loop) AS texts, count(*) FILTER (loop = 'hard') AS loops, round(loops / texts, 3) AS rate
FROM answers GROUP BY source ORDER BY rate DESC, source""",
    ),
    Question(
        "At which temperature?",
        """SELECT temperature, count(loop) AS texts, count(*) FILTER (loop = 'hard') AS loops
FROM answers GROUP BY temperature ORDER BY temperature""",
    ),
    Question(
        "What do the worst loops look like?",
        """SELECT loop_rule, loop_period AS bytes, round(loop_repeats, 1) AS times, left(text, 30) AS begins
FROM rollouts WHERE loop = 'hard' ORDER BY loop_share DESC, rollout_id LIMIT 3""",
    ),
    Question(
        "Can the judges be trusted?",
        """SELECT judge, ok, failed, round(mean, 2) AS mean, round(canaries, 2) AS canaries, round(flips, 2) AS flips
FROM judge_stats WHERE mass IS NOT NULL OR canaries IS NOT NULL ORDER BY judge""",
    ),
    Question(
        "Do they like long answers?",
        "SELECT judge, answers, round(slope, 2) AS slope, round(correlation, 2) AS correlation FROM length_bias ORDER BY judge",
    ),
    Question(
        "How clear are the pairs?",
        """SELECT cause, count(*) AS pairs, round(median(margin), 2) AS margin, round(min(margin), 2) AS least
FROM pairs GROUP BY cause ORDER BY pairs DESC, cause""",
    ),
    Question(
        "Is the chosen side longer?",
        """SELECT cause, median(len(chosen_token_ids)) AS chosen, median(len(rejected_token_ids)) AS rejected
FROM pairs GROUP BY cause ORDER BY cause""",
    ),
    Question(
        "Which slot writes the best answers?",
        """SELECT slot, count(*) FILTER (side = 'chosen') AS chosen, count(*) FILTER (side = 'rejected') AS rejected
FROM answers GROUP BY slot ORDER BY chosen DESC, slot""",
    ),
    Question(
        "What did it cost?",
        """SELECT stage, sum(requests) AS requests, sum(prompt_tokens) AS read, sum(completion_tokens) AS written
FROM cost GROUP BY stage ORDER BY stage""",
    ),
)
