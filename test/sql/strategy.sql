-- Strategies: counting a meter from a usage object, figures worked out by hand
\set ECHO none
\getenv srcdir PG_ABS_SRCDIR
\i :srcdir/sql/setup.psql
BEGIN;
SELECT plan(102);

-- Texts
SELECT is(array[tokenbill.count_characters(u::jsonb), tokenbill.count_graphemes(u::jsonb), tokenbill.count_words(u::jsonb)], array[c, g, w]::numeric[], what)
FROM (VALUES
	('a text', '{"text": "Hello, world"}', 12, 12, 2),
	('an empty one', '{"text": ""}', 0, 0, 0),
	('in Chinese', '{"text": "你好，世界"}', 5, 5, 4),
	('an emoji, escaped', '{"text": "\ud83d\udc68\u200d\ud83d\udc69\u200d\ud83d\udc67"}', 5, 1, 0),
	('what speech and pictures are made of', '{"input": "one two", "prompt": "three"}', 12, 12, 3),
	('several', '{"input": ["one", "two three", ""]}', 12, 12, 3),
	('words do not run from one text into the next', '{"input": ["on", "e"]}', 3, 3, 2),
	('messages', '{"input": [{"role": "user", "content": "two words"}, {"role": "assistant", "content": "three more words"}]}', 25, 25, 5),
	('parts of messages', '{"input": [{"role": "user", "content": [{"type": "text", "text": "a picture:"}, {"type": "image_url", "image_url": {"url": "data:x"}}]}]}', 10, 10, 2),
	('no messages', '{"input": []}', 0, 0, 0),
	('other members do not matter', '{"text": "x", "voice": "alloy", "speed": 1.25}', 1, 1, 1),
	('counts in the place of a text', '{"text": {"characters": 12, "graphemes": 11, "words": 3}}', 12, 11, 3),
	('or of some', '{"text": ["four", {"characters": 12, "graphemes": 11, "words": 3}]}', 16, 15, 4)
) v(what, u, c, g, w);
SELECT is(tokenbill.count_characters('{"text": "no", "lyrics": "la la la", "style": "pop"}', '{"members": ["lyrics", "style"]}'), 11::numeric, 'members by name');
SELECT is(tokenbill.count_words('{"lyrics": "la la la"}', '{"members": ["lyrics", "style"]}'), 3::numeric, 'one of them is enough');
SELECT pg_temp.refused(format('SELECT tokenbill.count_characters(%L::jsonb, %L::jsonb)', u, o), '22023', d, what)
FROM (VALUES
	('no text at all', '{"txt": "x"}', '{}', '{"argument": "usage", "members": ["text", "input", "prompt"]}'::jsonb),
	('nor of the members named', '{"text": "x"}', '{"members": ["lyrics"]}', '{"argument": "usage", "members": ["lyrics"]}'),
	('null is no text', '{"text": null}', '{}', '{"argument": "usage", "field": "text"}'),
	('nor is a number', '{"text": 12}', '{}', '{"argument": "usage", "field": "text"}'),
	('nor in a list', '{"text": ["a", 1]}', '{}', '{"argument": "usage", "field": "text"}'),
	('nested too deep', '{"text": [[[[[[[[[["x"]]]]]]]]]]}', '{}', '{"field": "text"}'),
	('counts that lack one', '{"text": {"characters": 12, "words": 3}}', '{}', '{"field": "text"}'),
	('counts that are negative', '{"text": {"characters": -1, "graphemes": 11, "words": 3}}', '{}', '{"field": "text"}'),
	('counts that are fractional', '{"text": {"characters": 1.5, "graphemes": 11, "words": 3}}', '{}', '{"field": "text"}'),
	('counts that are strings', '{"text": {"characters": "1", "graphemes": 11, "words": 3}}', '{}', '{"field": "text"}'),
	('counts of 10^15', '{"text": {"characters": 1e15, "graphemes": 11, "words": 3}}', '{}', '{"field": "text"}'),
	('usage that is no object', '["text"]', '{}', '{"argument": "usage"}'),
	('nor is a string', '"text"', '{}', '{"argument": "usage"}'),
	('options that are none', '{"text": "x"}', '[]', '{"argument": "options"}'),
	('an option that is not known', '{"text": "x"}', '{"member": "text"}', '{"argument": "options", "function": "count_characters"}'),
	('members that are no array', '{"text": "x"}', '{"members": "text"}', '{"argument": "options", "field": "members"}'),
	('members that are no names', '{"text": "x"}', '{"members": [1]}', '{"argument": "options", "field": "members"}'),
	('no members', '{"text": "x"}', '{"members": []}', '{"argument": "options", "field": "members"}')
) v(what, u, o, d);

-- Pictures
SELECT is(tokenbill.count_images(u::jsonb, o::jsonb), c::numeric, 'pictures: ' || what)
FROM (VALUES
	('some', '{"n": 3}', '{}', 3),
	('by another name', '{"images": 2}', '{}', 2),
	('one, if its size is all that is said', '{"size": "1024x1024"}', '{}', 1),
	('the request''s and the response''s number', '{"n": 2, "data": [{"url": "a"}, {"url": "b"}]}', '{}', 2),
	('a list', '{"images": [{"width": 512, "height": 512}, {"size": "64x64"}, {}]}', '{}', 3),
	('none in a list', '{"data": []}', '{}', 0),
	('by size', '{"n": 2, "size": "1024x1792"}', '{"sizes": {"1024x1024": 0.04, "1024x1792": 0.08}}', 0.16),
	('quality and size go before the size', '{"size": "1024x1024", "quality": "hd"}', '{"sizes": {"1024x1024": 0.04, "hd/1024x1024": 0.08}}', 0.08),
	('the size alone, for other qualities', '{"size": "1024x1024", "quality": "standard"}', '{"sizes": {"1024x1024": 0.04, "hd/1024x1024": 0.08}}', 0.04),
	('a size that is no pixels', '{"size": "4K"}', '{"sizes": {"1K": 1, "2K": 1, "4K": 2}}', 2),
	('all other sizes', '{"size": "99x99", "n": 4}', '{"sizes": {"1024x1024": 1, "*": 3}}', 12),
	('one by one', '{"size": "10x10", "images": [{"size": "20x20"}, {}]}', '{"sizes": {"10x10": 1, "20x20": 5}}', 6),
	('width and height are a size', '{"width": 10, "height": 20}', '{"sizes": {"10x20": 7}}', 7),
	('by pixels, the first step', '{"size": "1024x1024"}', '{"pixels": [{"up_to": 1048576, "count": 1}, {"count": 2}]}', 1),
	('the next step', '{"size": "1025x1024", "n": 3}', '{"pixels": [{"up_to": 1048576, "count": 1}, {"count": 2}]}', 6)
) v(what, u, o, c);
SELECT is(tokenbill.count_pixels(u::jsonb, o::jsonb), c::numeric, 'pixels: ' || what)
FROM (VALUES
	('width times height', '{"width": 640, "height": 480}', '{}', 307200),
	('times n', '{"size": "1024x1024", "n": 3}', '{}', 3145728),
	('an x from LiteLLM', '{"size": "1024-x-1792"}', '{}', 1835008),
	('a capital', '{"size": "2X3"}', '{}', 6),
	('an asterisk', '{"size": "2*3"}', '{}', 6),
	('blanks', '{"size": "2 x 3"}', '{}', 6),
	('a sign of multiplication', '{"size": "2×3"}', '{}', 6),
	('a list', '{"images": [{"width": 10, "height": 10}, {"size": "3x3"}]}', '{}', 109),
	('both, if they agree', '{"width": 3, "height": 2, "size": "3x2"}', '{}', 6),
	('each rounded up to megapixels', '{"size": "1024x1024", "n": 2}', '{"round_up": 1000000}', 4000000),
	('nothing to round', '{"size": "1000x1000"}', '{"round_up": 1000000}', 1000000)
) v(what, u, o, c);
SELECT pg_temp.refused(format('SELECT tokenbill.%s(%L, %L)', f, u, o), '22023', d, f || ': ' || what)
FROM (VALUES
	('count_images', 'no pictures', '{"seconds": 3}', '{}', '{"argument": "usage"}'::jsonb),
	('count_images', 'none', '{"n": 0}', '{}', '{"argument": "usage", "field": "n"}'),
	('count_images', 'half a one', '{"n": 1.5}', '{}', '{"field": "n"}'),
	('count_images', 'fewer than none', '{"n": -1}', '{}', '{"field": "n"}'),
	('count_images', 'millions', '{"n": 1000001}', '{}', '{"field": "n"}'),
	('count_images', 'two numbers', '{"n": 1, "images": 2}', '{}', '{"field": "images"}'),
	('count_images', 'a list of another length', '{"n": 3, "data": [{}]}', '{}', '{"field": "n"}'),
	('count_images', 'two lists', '{"images": [{}], "data": [{}]}', '{}', '{"field": "data"}'),
	('count_images', 'a list of anything', '{"images": ["a"]}', '{}', '{"field": "images"}'),
	('count_images', 'a size that nobody has named', '{"size": "512x512"}', '{"sizes": {"1024x1024": 1}}', '{"argument": "usage", "field": "size", "size": "512x512"}'),
	('count_images', 'no size where it matters', '{"n": 1}', '{"sizes": {"1024x1024": 1}}', '{"field": "size", "size": null}'),
	('count_images', 'more pixels than any step', '{"size": "9x9"}', '{"pixels": [{"up_to": 80, "count": 1}]}', '{"field": "size"}'),
	('count_images', 'steps that are none', '{"size": "9x9"}', '{"pixels": [{"up_to": 80}]}', '{"argument": "options", "field": "pixels"}'),
	('count_images', 'sizes that are none', '{"size": "9x9"}', '{"sizes": {"9x9": "1"}}', '{"argument": "options", "field": "sizes"}'),
	('count_pixels', 'a word for a size', '{"size": "auto"}', '{}', '{"argument": "usage", "field": "size"}'),
	('count_pixels', 'a side missing', '{"width": 10}', '{}', '{"argument": "usage", "field": "height"}'),
	('count_pixels', 'a size that contradicts', '{"width": 10, "height": 10, "size": "10x11"}', '{}', '{"field": "size"}'),
	('count_pixels', 'no width', '{"width": 0, "height": 10}', '{}', '{"field": "width"}'),
	('count_pixels', 'a size with more behind it', '{"size": "10x10px"}', '{}', '{"field": "size"}'),
	('count_pixels', 'sides too long', '{"size": "10000000x10"}', '{}', '{"field": "size"}'),
	('count_pixels', 'rounding to nothing', '{"size": "10x10"}', '{"round_up": 0}', '{"argument": "options", "field": "round_up"}')
) v(f, what, u, o, d);

-- Time, calls, sums
SELECT is(tokenbill.count_seconds(u::jsonb, o::jsonb)::text, c, 'seconds: ' || what)
FROM (VALUES
	('as they are', '{"seconds": 8.5}', '{}', '8.5'),
	('a duration', '{"duration": 12}', '{}', '12'),
	('as a string', '{"seconds": "8"}', '{}', '8'),
	('in thousandths', '{"duration_ms": 1234}', '{"members": ["duration_ms"], "per_second": 1000}', '1.234'),
	('rounded up to quarters of a minute', '{"seconds": 15.01}', '{"round_up": 15}', '30'),
	('not if they are', '{"seconds": 30}', '{"round_up": 15}', '30'),
	('a tail of floating point', '{"duration": 8.470000267028809}', '{"round_up": 0.001}', '8.471'),
	('at least', '{"seconds": 0.2}', '{"minimum": 10, "round_up": 1}', '10'),
	('none', '{"seconds": 0}', '{}', '0')
) v(what, u, o, c);
SELECT pg_temp.refused(format('SELECT tokenbill.count_seconds(%L, %L)', u, o), '22023', d, 'seconds: ' || what)
FROM (VALUES
	('none said', '{"minutes": 1}', '{}', '{"argument": "usage", "members": ["seconds", "duration"]}'::jsonb),
	('negative', '{"seconds": -1}', '{}', '{"field": "seconds"}'),
	('a word', '{"seconds": "1e3"}', '{}', '{"field": "seconds"}'),
	('contradiction', '{"seconds": 1, "duration": 2}', '{}', '{"field": "duration"}'),
	('a unit that is none', '{"seconds": 1}', '{"per_second": 60}', '{"argument": "options", "field": "per_second"}')
) v(what, u, o, d);
SELECT is(tokenbill.count_requests('{"anything": "at all"}'), 1::numeric, 'a call is one request');
SELECT is(tokenbill.count_sum(u::jsonb, o::jsonb), c::numeric, 'sum: ' || what)
FROM (VALUES
	('of meters by weight', '{"input_tokens": 1000, "output_tokens": 300}', '{"meters": {"input_tokens": 1, "output_tokens": 4}}', 2200),
	('of a provider''s object', '{"prompt_tokens": 1000, "completion_tokens": 300, "total_tokens": 1300, "prompt_tokens_details": {"cached_tokens": 400}}',
		'{"meters": {"input_tokens": 1, "cache_read_tokens": 0.1, "output_tokens": 4}}', 1840),
	('what is not named is not in it', '{"input_tokens": 10, "images": 2}', '{"meters": {"input_tokens": 2}}', 20)
) v(what, u, o, c);
SELECT pg_temp.refused(format('SELECT tokenbill.count_sum(%L, %L)', u, o), s, d, 'sum: ' || what)
FROM (VALUES
	('no meters named', '{"input_tokens": 10}', '{}', '22023', '{"argument": "options", "field": "meters"}'::jsonb),
	('none of them there', '{"input_tokens": 10}', '{"meters": {"output_tokens": 1}}', '22023', '{"argument": "usage"}'),
	('a weight that is none', '{"input_tokens": 10}', '{"meters": {"input_tokens": "1"}}', '22023', '{"argument": "options", "field": "meters"}'),
	('bad usage', '{"input_tokens": -10}', '{"meters": {"input_tokens": 1}}', '22023', '{"argument": "usage", "field": "input_tokens"}')
) v(what, u, o, s, d);

SELECT * FROM finish();
ROLLBACK;
