import { addMonths, differenceInCalendarDays, format, formatDistance, intervalToDuration, isValid, parse, parseISO } from "date-fns";
import { de } from "date-fns/locale";
import { checks, equal } from "../check";

const day = parseISO("2024-01-31T12:00:00Z");

export default checks({
  formats: () => equal(format(day, "yyyy-MM-dd EEEE"), "2024-01-31 Wednesday"),
  locales: () => equal(format(day, "EEEE, d. MMMM", { locale: de }), "Mittwoch, 31. Januar"),
  adds: () => equal(addMonths(day, 1).toISOString(), "2024-02-29T12:00:00.000Z"),
  parses: () => equal([isValid(parse("31/02/2024", "dd/MM/yyyy", day)), parse("01/02/2024", "dd/MM/yyyy", day).getUTCMonth()], [false, 1]),
  distances: () => {
    equal(differenceInCalendarDays(addMonths(day, 2), day), 60);
    equal(formatDistance(addMonths(day, 3), day), "3 months");
    equal(intervalToDuration({ start: 0, end: 3_661_000 }), { hours: 1, minutes: 1, seconds: 1 });
  },
});
