from crosstrainer_jax.inference.suggestion import Suggestion, lines_of


def test_a_line_says_where_what_and_why():
  clip = Suggestion('v1/0003', 'https://v.test/1', 3, 4.5, 'Turn in.', 'incorrect', ('hips',), 0.5, 0.81)
  assert lines_of([clip]) == [
    '  watch      3.0–4.5 s of https://v.test/1, shows the mistake: “Turn in.” '
    '(about hips; relevance 0.81; similarity 0.50)'
  ]


def test_a_link_leads_to_the_moment():
  clip = Suggestion('v1/0003', 'https://www.youtube.com/watch?v=abc', 31.75, 35, 'Turn in.', '', (), 0.5, None)
  assert clip.link == 'https://www.youtube.com/watch?v=abc&t=31s'


def test_what_is_not_known_is_not_said():
  bare = Suggestion('v1/0003', '', 3, 4.5, 'Turn in.', '', (), 0.5, None)
  assert bare.describe() == '3.0–4.5 s of v1: “Turn in.” (similarity 0.50)'
