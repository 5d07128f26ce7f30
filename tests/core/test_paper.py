"""What the paper prints."""

from core.paper import FINDINGS, TABLE_4, TABLE_5


def test_every_experiment_has_its_row_and_one_of_them_crashed() -> None:
    assert sorted(TABLE_4) == list(range(1, 11))
    for number, row in TABLE_4.items():
        assert (None in row.f1) == (number == 4)
        assert [epoch is None for epoch in row.epochs] == [f1 is None for f1 in row.f1]


def test_a_submitted_run_has_the_online_score_of_its_experiment() -> None:
    for run in TABLE_5.values():
        online = TABLE_4[run.experiment].online
        assert online is not None
        assert abs(online - run.f1) < 6e-4
    assert [run.rank for run in TABLE_5.values()] == [12, 13, 17, 18, 19]


def test_findings_compare_experiments_that_there_are() -> None:
    assert all({finding.better, finding.worse} <= set(TABLE_4) for finding in FINDINGS)
